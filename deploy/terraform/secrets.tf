# Secrets are made here, their versions by a person (README.md): no value ever stands in Terraform's state.

locals {
  secret_names = {
    DATADOG_API_KEY            = "datadog-api-key"
    DATADOG_APP_KEY            = "datadog-app-key"
    PII_SALT                   = "pii-salt"
    EXPORT_WEBHOOK_SECRET      = "export-webhook-secret"
    REVIEW_WEBHOOK_URL         = "review-webhook-url"
    REVIEW_WEBHOOK_SECRET      = "review-webhook-secret"
    OTEL_EXPORTER_OTLP_HEADERS = "otel-exporter-otlp-headers"
  }
  always_secret = ["DATADOG_API_KEY", "DATADOG_APP_KEY", "PII_SALT"]
  secrets       = { for name in setunion(local.always_secret, var.more_secrets) : name => local.secret_names[name] }
}

resource "google_secret_manager_secret" "settings" {
  for_each = local.secrets

  project   = var.project
  secret_id = "${var.name}-${each.value}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.used]
}
