"""Secrets that are known by their shape: keys of vendors, signed tokens, key blocks, authorization values, wallets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.text.checksums import base58_check
from evalforge.core.privacy.text.detector import Check, Detector, Match, View, whole
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_word

_B = r"(?:^|[^0-9A-Za-z])"
_URLSAFE = r"[0-9A-Za-z_\-]"

# One row per vendor: name, what its keys look like. Shapes are those the vendors document or their scanners publish.
VENDOR_KEYS: tuple[tuple[str, str], ...] = (
    ("aws_access_key_id", r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[0-9A-Z]{12,20}"),
    ("google_api_key", r"AIza[0-9A-Za-z_\-]{30,45}"),
    ("google_oauth", r"ya29\.[0-9A-Za-z_\-]{10,}|GOCSPX-[0-9A-Za-z_\-]{16,}|1//0[0-9A-Za-z_\-]{20,}"),
    ("google_client", r"[0-9]{8,15}-[0-9a-z]{20,40}\.apps\.googleusercontent\.com"),
    ("google_service_account", r"[a-z0-9\-]{3,60}@[a-z0-9\-]{3,60}\.iam\.gserviceaccount\.com"),
    ("azure", r"(?i:AccountKey|SharedAccessKey|sig)=[0-9A-Za-z+/=%]{20,}|[0-9A-Za-z_~.]{3}[78]Q~[0-9A-Za-z_~.\-]{31,34}"),
    ("github", r"gh[pousr]_[0-9A-Za-z]{10,255}|github_pat_[0-9A-Za-z_]{20,255}"),
    ("gitlab", r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[0-9A-Za-z_\-.]{10,}|GR1348941[0-9A-Za-z_\-]{10,}"),
    ("slack", r"xox[abeoprs](?:\.xox[bp])?-[0-9A-Za-z\-]{8,}|xapp-[0-9]-[0-9A-Za-z\-]{8,}"),
    ("stripe", r"(?:sk|pk|rk)_(?:live|test)_[0-9A-Za-z]{8,}|whsec_[0-9A-Za-z+/=]{16,}"),
    ("openai", r"sk-(?:proj-|svcacct-|admin-|None-)?[0-9A-Za-z_\-]{16,}"),
    ("anthropic", r"sk-ant-[0-9A-Za-z_\-]{8,}"),
    ("openrouter", r"sk-or-[0-9A-Za-z_\-]{8,}"),
    ("huggingface", r"(?:hf|api_org)_[0-9A-Za-z]{12,}"),
    ("groq", r"gsk_[0-9A-Za-z]{16,}"),
    ("xai", r"xai-[0-9A-Za-z]{16,}"),
    ("perplexity", r"pplx-[0-9A-Za-z]{16,}"),
    ("replicate", r"r8_[0-9A-Za-z]{16,}"),
    ("fireworks", r"fw_[0-9A-Za-z]{12,}"),
    ("langsmith", r"lsv2_(?:pt|sk)_[0-9a-z_]{16,}|ls__[0-9a-z]{16,}"),
    ("langfuse", r"(?:sk|pk)-lf-[0-9a-f\-]{16,}"),
    ("tavily", r"tvly-[0-9A-Za-z\-]{12,}"),
    ("pinecone", r"pcsk_[0-9A-Za-z_]{16,}"),
    ("nvidia", r"nvapi-[0-9A-Za-z_\-]{16,}"),
    ("twilio", r"(?:AC|SK|PN|MG|VA)[0-9a-f]{32}"),
    ("sendgrid", r"SG\.[0-9A-Za-z_\-]{12,}\.[0-9A-Za-z_\-]{12,}"),
    ("mailgun", r"key-[0-9a-z]{24,}|(?:pub)?key-[0-9a-f]{32}"),
    ("mailchimp", r"[0-9a-f]{32}-us[0-9]{1,2}"),
    ("npm", r"npm_[0-9A-Za-z]{16,}"),
    ("pypi", r"pypi-[0-9A-Za-z_\-]{16,}"),
    ("rubygems", r"rubygems_[0-9a-f]{24,}"),
    ("docker", r"dckr_pat_[0-9A-Za-z_\-]{12,}"),
    ("telegram", r"[0-9]{8,10}:AA[0-9A-Za-z_\-]{30,36}"),
    ("discord", r"[MNO][0-9A-Za-z_\-]{22,27}\.[0-9A-Za-z_\-]{5,8}\.[0-9A-Za-z_\-]{24,40}"),
    ("square", r"(?:sq0[a-z]{3}-|EAAA)[0-9A-Za-z_\-]{16,}"),
    ("shopify", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{16,}"),
    ("digitalocean", r"do[opr]_v1_[0-9a-f]{32,}"),
    ("databricks", r"dapi[0-9a-f]{24,}(?:-[0-9])?"),
    ("datadog", r"dd(?:api|app|pat)_[0-9A-Za-z]{16,}|pub[0-9a-f]{32}"),
    ("newrelic", r"NR(?:AK|JS|RA|II|IQ|IB)-?[0-9A-Za-z\-]{16,}"),
    ("sentry", r"sntr[yu]s_[0-9A-Za-z_=+/]{16,}"),
    ("grafana", r"gl(?:c|sa)_[0-9A-Za-z_=+/]{16,}"),
    ("atlassian", r"AT(?:ATT|CTT|BB)[0-9A-Za-z_\-=]{16,}"),
    ("linear", r"lin_(?:api|oauth)_[0-9A-Za-z]{16,}"),
    ("notion", r"(?:secret|ntn)_[0-9A-Za-z]{24,}"),
    ("airtable", r"pat[0-9A-Za-z]{14}\.[0-9a-f]{32,}|key[0-9A-Za-z]{14}"),
    ("figma", r"figd_[0-9A-Za-z_\-]{16,}"),
    ("asana", r"[0-9]/[0-9]{12,20}:[0-9a-f]{24,}"),
    ("vault", r"hv[bs]\.[0-9A-Za-z_\-]{16,}|s\.[0-9A-Za-z]{24}"),
    ("terraform", r"[0-9A-Za-z]{14}\.atlasv1\.[0-9A-Za-z_\-=]{30,}"),
    ("pulumi", r"pul-[0-9a-f]{32,}"),
    ("doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[0-9A-Za-z._]{16,}"),
    ("supabase", r"sb[ps]_(?:secret_|publishable_)?[0-9A-Za-z_\-]{16,}"),
    ("facebook", r"EAA[0-9A-Za-z]{20,}"),
    ("twitter", r"AAAAAAAAAAAAAAAAAAAA[0-9A-Za-z%]{20,}"),
    ("paypal", r"access_token\$production\$[0-9a-z]{8,}\$[0-9a-f]{16,}"),
    ("razorpay", r"rzp_(?:live|test)_[0-9A-Za-z]{10,}"),
    ("planetscale", r"pscale_(?:tkn|oauth|pw)_[0-9A-Za-z=_.\-]{16,}"),
    ("postman", r"PMAK-[0-9a-f]{16,}-[0-9a-f]{16,}"),
    ("okta", r"00[0-9A-Za-z_\-]{40}"),
    ("age", r"AGE-SECRET-KEY-1[0-9A-Z]{30,}"),
    (
        "ssh_key",
        r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-[a-z0-9\-]+|sk-ssh-[a-z0-9@.\-]+) AAAA[0-9A-Za-z+/=]{16,}(?: "
        r"[^\s\"']{1,80})?",
    ),
)

_PEM_BEGIN = r"-----BEGIN [A-Z0-9 ]{0,60}-----"
_PEM_BODY = re.compile(r"[0-9A-Za-z+/=\s:,.\-\\]{0,20000}")


def _pem(view: View, match: Match) -> Iterable[Finding]:
    """From BEGIN to END; where the end is cut off, to the last character that can be part of the block."""
    start, end = match.span()
    if start < view.read_to.get("pem", 0):
        return
    stop = view.plain.find("-----END ", end, end + 20_000)
    if stop >= 0:
        line = view.plain.find("-----", stop + 9, stop + 90)
        end = line + 5 if line >= 0 else stop + 9
    else:
        body = _PEM_BODY.match(view.plain, end)
        end = body.end() if body else end
    view.read_to["pem"] = end
    yield view.found(start, end, TextKind.SECRET)


def _authorization(view: View, match: Match) -> Iterable[Finding]:
    """`Bearer eyJ...`, `Basic dXNlcjpwYXNz`; "bearer authentication" and "basic understanding" are words."""
    start, end = match.span(1)
    value = view.plain[start:end].rstrip(".,;:")
    if value.isalpha() and (value.islower() or value.istitle() or is_word(value.lower())):
        return ()
    if value.replace("-", "").replace("_", "").isalpha() and value.islower():
        return ()
    return (view.found(start, start + len(value), TextKind.SECRET, view.text[start : start + len(value)]),)


def _exact(kind: TextKind, group: int = 1) -> Check:
    """A code whose case matters."""

    def check(view: View, match: Match) -> Iterable[Finding]:
        start, end = match.span(group)
        return (view.found(start, end, kind, view.text[start:end]),)

    return check


def _base58_wallet(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    value = view.plain[start:end]
    return (view.found(start, end, TextKind.WALLET, value),) if base58_check(value) else ()


def _ripple(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    value = view.plain[start:end]
    has_all = not value.islower() and any(map(str.isdigit, value))
    return (view.found(start, end, TextKind.WALLET, value),) if has_all else ()


_BASE58 = "[1-9A-HJ-NP-Za-km-z]"

DETECTORS: tuple[Detector, ...] = (
    Detector("pem", _PEM_BEGIN, _pem),
    *(
        Detector(
            f"key_{name}",
            rf"{_B}({shape})",
            _exact(TextKind.SECRET),
        )
        for name, shape in VENDOR_KEYS
    ),
    Detector(
        "jwt",
        rf"{_B}(eyJ{_URLSAFE}{{6,}}\.(?:{_URLSAFE}{{4,}})?(?:\.{_URLSAFE}{{0,}}){{0,3}})",
        _exact(TextKind.SECRET),
        gate=r"eyJ",
    ),
    Detector(
        "webhook",
        r"(https://(?:hooks\.slack\.com/|(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/|[a-z0-9\-]{1,60}\.webhook\.office\.com/|"
        r"outlook\.office\.com/webhook/|hooks\.zapier\.com/|chat\.googleapis\.com/v1/spaces/)[^\s\"'<>]{4,500})",
        _exact(TextKind.SECRET),
    ),
    Detector(
        "authorization",
        r"(?i)\b(?:bearer|basic|digest|negotiate|apikey|api-key|token|aws4-hmac-sha256|hmac)[ "
        r":=]{1,3}[\"']?([0-9a-z._~+/\-]{6,}={0,3})",
        _authorization,
        gate=r"(?i)\b(?:bearer|basic|digest|negotiate|api-?key|token|hmac)[ :=]",
    ),
    Detector("wallet_eth", rf"{_B}(0x[0-9A-Fa-f]{{40}})\b", _exact(TextKind.WALLET)),
    Detector(
        "wallet_bech32",
        rf"(?i){_B}((?:bc1|tb1|ltc1|addr1|cosmos1|bnb1|terra1)[02-9ac-hj-np-z]{{20,100}})\b",
        whole(TextKind.WALLET, 1),
    ),
    Detector("wallet_base58", rf"{_B}([13LMD]{_BASE58}{{25,34}})\b", _base58_wallet),
    Detector("wallet_monero", rf"{_B}([48]{_BASE58}{{94,105}})\b", _exact(TextKind.WALLET)),
    Detector("wallet_ripple", rf"{_B}(r{_BASE58}{{24,34}})\b", _ripple),
    Detector("wallet_tron", rf"{_B}(T{_BASE58}{{33}})\b", _base58_wallet),
)
