locals {
  # What is new since the last run, and again what may have arrived late.
  run_request = { since_last = true }
}

# A run that is asked for while another goes on is answered 409. Cloud Scheduler counts that as a failed attempt, so it is not
# tried again (the next one comes anyway), and no alert looks at Cloud Scheduler: that nothing gets done is seen by the lag.
resource "google_cloud_scheduler_job" "ingest" {
  project          = var.project
  region           = var.region
  name             = "${var.name}-ingest"
  description      = "Asks EvalForge ingestion for what is new"
  schedule         = var.schedule
  time_zone        = var.time_zone
  paused           = var.schedule_paused
  attempt_deadline = "${local.request_timeout_s}s"

  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "${local.url}/ingestion/run-once"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode(local.run_request))

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = local.url
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_binding.invokers]
}

resource "google_cloud_scheduler_job" "audit" {
  count = var.audit_schedule == null ? 0 : 1

  project          = var.project
  region           = var.region
  name             = "${var.name}-audit"
  description      = "Starts the audit of what EvalForge ingestion has stored"
  schedule         = var.audit_schedule
  time_zone        = var.time_zone
  paused           = var.schedule_paused
  attempt_deadline = "180s"

  retry_config {
    retry_count = 3
  }

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.audit[0].id}:run"

    # Google's own API takes access tokens, not ID tokens.
    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [google_cloud_run_v2_job_iam_binding.audit]
}
