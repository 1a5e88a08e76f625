# Metrics count log events; their names and fields are those of docs/events.md, and tests hold the filters against them.
# `run.refused`, which goes with a 409, is in none of them.

locals {
  from_service = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""
  from_audit   = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${var.name}-audit\""

  log_metrics = {
    caught_up = {
      description = "Runs that read everything up to their beginning"
      filter      = "jsonPayload.message=\"run.finished\" AND NOT jsonPayload.dry_run=true AND NOT jsonPayload.incomplete_because=(\"time_budget\" OR \"cap\" OR \"stopped\" OR \"lease_lost\" OR \"partial\" OR \"error\")"
    }
    failed = {
      description = "Runs that ended with an error other than a quota's end, wrong settings, and bugs"
      filter      = "(jsonPayload.message=\"run.failed\" AND NOT jsonPayload.code=\"quota_exhausted\") OR jsonPayload.message=\"service.misconfigured\" OR jsonPayload.message=\"request.failed\""
    }
    quota = {
      description = "Runs that Datadog's quota ended"
      filter      = "jsonPayload.message=\"run.failed\" AND jsonPayload.code=\"quota_exhausted\""
    }
    dead_letters = {
      description = "Items that became dead letters"
      filter      = "jsonPayload.message=\"item.rejected\""
    }
    gone = {
      description = "Windows that Datadog forgot before any run had read them"
      filter      = "jsonPayload.message=\"window.gone\""
    }
    leaks = {
      description = "Personal data that the sanitizer had left: closed by the second net, or found by an audit"
      filter      = "jsonPayload.message=\"second_net.hit\" OR (jsonPayload.message=\"audit.finished\" AND jsonPayload.leaking>0)"
    }
  }

  alerts = {
    failed = {
      title    = "a run failed"
      above    = var.failed_runs_alert
      severity = "ERROR"
      advice   = "The code in the log line says what to do: docs/errors.md. What was stored stays, and the next run goes on."
    }
    quota = {
      title    = "Datadog's quota is out"
      above    = 0
      severity = "WARNING"
      advice   = "The next run goes on after the reset. If it comes again: a wider schedule, a narrower DATADOG_APM_SCOPE, or others who use the quota up."
    }
    dead_letters = {
      title    = "many dead letters"
      above    = var.dead_letters_alert
      severity = "WARNING"
      advice   = "evalforge dead-letters list tells the reasons; after an upgrade or a changed setting evalforge dead-letters replay."
    }
    gone = {
      title    = "failures are lost: Datadog no longer holds what was never read"
      above    = 0
      severity = "CRITICAL"
      advice   = "The report's gone names the windows: evalforge runs show RUN_ID. See to what kept the runs back; that stretch is lost."
    }
    leaks = {
      title    = "a leak was found"
      above    = 0
      severity = "CRITICAL"
      advice   = "evalforge audit tells field and kind, evalforge audit --fix mends. second_net.hit was closed before it was written; tell the maintainers the kind."
    }
  }
}

resource "google_logging_metric" "events" {
  for_each = local.log_metrics

  project     = var.project
  name        = "${replace(var.name, "-", "_")}_${each.key}"
  description = each.value.description
  filter      = "((${local.from_service}) OR (${local.from_audit})) AND (${each.value.filter})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }

  depends_on = [google_project_service.used]
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  project      = var.project
  type         = "email"
  display_name = "EvalForge ingestion: ${each.key}"
  labels       = { email_address = each.key }
  depends_on   = [google_project_service.used]
}

locals {
  channels = [for channel in google_monitoring_notification_channel.email : channel.id]
}

resource "google_monitoring_alert_policy" "events" {
  for_each = local.alerts

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels

  # A condition may look at one kind of resource only.
  dynamic "conditions" {
    for_each = each.key == "leaks" ? ["cloud_run_revision", "cloud_run_job"] : ["cloud_run_revision"]
    content {
      display_name = "${each.value.title} (${conditions.value})"
      condition_threshold {
        filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.events[each.key].name}\" AND resource.type=\"${conditions.value}\""
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.above
        duration        = "0s"

        aggregations {
          alignment_period     = "3600s"
          per_series_aligner   = "ALIGN_SUM"
          cross_series_reducer = "REDUCE_SUM"
        }
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.advice
  }
}

locals {
  caught_up = "logging_googleapis_com:user_${google_logging_metric.events["caught_up"].name}{monitored_resource=\"cloud_run_revision\"}[${var.lag_alert_hours}h]"
}

# By PromQL: of a metric that has never been written, or not for a day, an absence condition says nothing.
resource "google_monitoring_alert_policy" "lag" {
  project               = var.project
  display_name          = "${var.name}: no run has come up to now for ${var.lag_alert_hours} hours"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "no run has come up to now"
    condition_prometheus_query_language {
      query               = "sum(increase(${local.caught_up})) < 1 or absent_over_time(${local.caught_up})"
      duration            = "600s"
      evaluation_interval = "300s"
      # The metric is known to Monitoring only once it was written.
      disable_metric_validation = true
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Is the schedule paused, refused (403: roles/run.invoker), answered 409 all the time, or do runs end early? evalforge runs list, and the log of Cloud Scheduler. Datadog forgets after 15 days."
  }
}

# The audit ends with a failure when it finds something, when it cannot read, and when it is killed; the log tells which.
resource "google_monitoring_alert_policy" "audit" {
  count = var.audit_schedule == null ? 0 : 1

  project               = var.project
  display_name          = "${var.name}: the audit did not end well"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "an execution failed"
    condition_threshold {
      filter          = "metric.type=\"run.googleapis.com/job/completed_execution_count\" AND resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${var.name}-audit\" AND metric.labels.result=\"failed\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "3600s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "evalforge audit says what it found, or why it broke off; evalforge audit --after POSITION goes on."
  }
}
