locals {
  # Longer than RUN_BUDGET_S, which ends a run at its next page; it is also the longest that Cloud Scheduler waits.
  request_timeout_s = 1800
  # Known before the service is: the service has to know its own name, and the schedule the audience.
  url = "https://${var.name}-${data.google_project.this.number}.${var.region}.run.app"

  fixed_settings = {
    CAPTURE_STORE               = "firestore"
    DATADOG_SITE                = var.datadog_site
    FIRESTORE_COLLECTION_PREFIX = var.collection_prefix
    FIRESTORE_DATABASE          = var.database
    GOOGLE_CLOUD_PROJECT        = var.project
    HOST                        = "0.0.0.0"
    LOG_FORMAT                  = "json"
    PUBLIC_HOSTS                = join(",", concat([trimprefix(local.url, "https://")], sort(var.public_hosts)))
    RUN_BUDGET_S                = "1500"
    # Cloud Run lets only those through who may invoke the service, and takes the signature off the token that it checked.
    SERVICE_CALLERS_CHECKED_BY = "platform"
    # Cloud Run kills 10 seconds after it has asked.
    STOP_GRACE_S = "8"
  }

  # Names of secrets and not their values: the service reads them itself, and again when Datadog refuses a key.
  secret_settings = {
    for name, secret in google_secret_manager_secret.settings :
    name => "projects/${var.project}/secrets/${secret.secret_id}/versions/latest"
  }

  environment = merge(var.settings, local.fixed_settings, local.secret_settings)
}

resource "google_cloud_run_v2_service" "ingestion" {
  project  = var.project
  location = var.region
  name     = var.name
  ingress  = var.ingress

  # Nobody comes in unasked, whatever a default may become.
  invoker_iam_disabled = false
  deletion_protection  = true

  template {
    service_account       = google_service_account.ingestion.email
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    timeout               = "${local.request_timeout_s}s"

    # One run at a time holds the lease: a second instance would only be told 409. All others share the one.
    max_instance_request_concurrency = 32
    scaling {
      min_instance_count = 0
      max_instance_count = 1
    }

    containers {
      image   = var.image
      command = ["evalforge"]
      args    = ["serve"]

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
        # A run lasts as long as its request: between requests nothing has to be done.
        cpu_idle          = true
        startup_cpu_boost = true
      }

      # By TCP: what Host a probe by HTTP would give, which the service checks, is nowhere promised. No liveness probe: one
      # that came late under load would kill a run, and a service that hangs is seen by its lag.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30
        tcp_socket {
          port = 8080
        }
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  depends_on = [google_project_iam_member.firestore, google_secret_manager_secret_iam_member.reader]
}

# What feeds the alert on leaks: everything that is stored is read once more by the present rules, and nothing is changed.
resource "google_cloud_run_v2_job" "audit" {
  count = var.audit_schedule == null ? 0 : 1

  project  = var.project
  location = var.region
  name     = "${var.name}-audit"

  deletion_protection = false

  template {
    template {
      service_account       = google_service_account.ingestion.email
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
      timeout               = "21600s"
      # It fails when it finds something, and would find it again.
      max_retries = 0

      containers {
        image   = var.image
        command = ["evalforge"]
        args    = ["audit"]

        resources {
          limits = {
            cpu    = "1"
            memory = "1Gi"
          }
        }

        dynamic "env" {
          for_each = local.environment
          content {
            name  = env.key
            value = env.value
          }
        }
      }
    }
  }

  depends_on = [google_project_iam_member.firestore, google_secret_manager_secret_iam_member.reader]
}
