# Who may do what; README.md says why each role is the least. Nothing here has a key.

resource "google_service_account" "ingestion" {
  account_id   = "${var.name}-ingestion"
  display_name = "EvalForge ingestion: what the service and the audit run as"
  depends_on   = [google_project_service.used]
}

resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-scheduler"
  display_name = "EvalForge ingestion: what the schedule calls as"
  depends_on   = [google_project_service.used]
}

resource "google_project_iam_member" "firestore" {
  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.ingestion.member

  # Firestore has no policy for each database; this condition is what keeps the others shut.
  condition {
    title       = "${var.name}-database-only"
    description = "Documents of this one database."
    expression  = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.captures.name}\""
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = google_secret_manager_secret.settings

  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.ingestion.member
}

# A binding and not a member: whoever was let in by hand is shut out again at the next apply.
resource "google_cloud_run_v2_service_iam_binding" "invokers" {
  project  = var.project
  location = google_cloud_run_v2_service.ingestion.location
  name     = google_cloud_run_v2_service.ingestion.name
  role     = "roles/run.invoker"
  members  = concat([google_service_account.scheduler.member], sort(var.invokers))
}

resource "google_cloud_run_v2_job_iam_binding" "audit" {
  count = var.audit_schedule == null ? 0 : 1

  project  = var.project
  location = google_cloud_run_v2_job.audit[0].location
  name     = google_cloud_run_v2_job.audit[0].name
  role     = "roles/run.invoker"
  members  = [google_service_account.scheduler.member]
}
