"use strict";
const live = document.getElementById("live");
const shown = {};
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/sandbox/page", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    // Every part was escaped where it was made; a part that did not change is left alone.
    for (const [id, html] of Object.entries(await answer.json())) {
      if (shown[id] !== html) document.getElementById(id).innerHTML = shown[id] = html;
    }
    live.textContent = "Live: looks every two seconds.";
  } catch {
    live.textContent = "The sandbox does not answer any more.";
  }
}
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
refresh();
