variable "project" {
  description = "Id of the Google Cloud project that everything is made in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and dashes; it is not the project's number."
  }
}

variable "region" {
  description = "Region of Cloud Run and Cloud Scheduler, such as europe-west1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "A region looks like europe-west1."
  }
}

variable "firestore_location" {
  description = "Where the database is kept: a region, or eur3 or nam5 for several. It can never be changed."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]{1,2}|eur3|nam5)$", var.firestore_location))
    error_message = "A location looks like europe-west1, or is eur3 or nam5."
  }
}

variable "image" {
  description = "The container image, by digest: what was reviewed is what runs, whoever moves a tag."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Give the image as REGISTRY/PATH@sha256:DIGEST, without a tag."
  }
}

variable "name" {
  description = "What the service is called, and what the names of secrets, accounts, metrics and alerts begin with."
  type        = string
  nullable    = false
  default     = "evalforge"

  validation {
    # An account's id has at most 30 characters, "-scheduler" among them.
    condition     = can(regex("^[a-z]([a-z0-9-]{2,18}[a-z0-9])$", var.name))
    error_message = "A name has 4 to 20 lower-case letters, digits and dashes, and begins with a letter."
  }
}

variable "database" {
  description = "Id of the Firestore database that is made for this and nothing else."
  type        = string
  nullable    = false
  default     = "evalforge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database))
    error_message = "A database id has 4 to 63 lower-case letters, digits and dashes; (default) belongs to others."
  }
}

variable "collection_prefix" {
  description = "FIRESTORE_COLLECTION_PREFIX: what the names of all collections begin with."
  type        = string
  nullable    = false
  default     = "evalforge_"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,60}$", var.collection_prefix))
    error_message = "A prefix is a letter, then at most 60 letters, digits, _ or -."
  }
}

variable "datadog_site" {
  description = "DATADOG_SITE: where your Datadog is, such as datadoghq.eu."
  type        = string
  nullable    = false

  validation {
    condition = contains(
      [
        "datadoghq.com", "us3.datadoghq.com", "us5.datadoghq.com", "ap1.datadoghq.com", "ap2.datadoghq.com",
        "uk1.datadoghq.com", "datadoghq.eu", "ddog-gov.com", "us2.ddog-gov.com",
      ],
      var.datadog_site,
    )
    error_message = "This is none of Datadog's sites."
  }
}

variable "settings" {
  description = "Further settings by name, as docs/configuration.md lists them, such as { PII_EXPLANATIONS = \"closed\" }."
  type        = map(string)
  nullable    = false
  default     = {}

  validation {
    # Their values would stand in Terraform's state; more_secrets makes secrets for those that Secret Manager can hold.
    condition = length(setintersection(keys(var.settings), [
      "DATADOG_API_KEY", "DATADOG_APP_KEY", "PII_SALT", "EXPORT_WEBHOOK_SECRET", "REVIEW_WEBHOOK_URL",
      "REVIEW_WEBHOOK_SECRET", "SERVICE_API_KEYS", "OTEL_EXPORTER_OTLP_HEADERS",
    ])) == 0
    error_message = "Secrets do not go into Terraform: add a version to the secret (README.md), or name it in more_secrets."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "CAPTURE_STORE", "DATADOG_SITE", "FIRESTORE_COLLECTION_PREFIX", "FIRESTORE_DATABASE", "GOOGLE_CLOUD_PROJECT", "HOST",
      "LOG_FORMAT", "PORT", "PUBLIC_HOSTS", "RUN_BUDGET_S", "SERVICE_CALLERS_CHECKED_BY", "STOP_GRACE_S",
    ])) == 0
    error_message = "One of these is set by this configuration already, or by Cloud Run (PORT); some have variables."
  }

  validation {
    # Cloud Run removes the signature of the token that it has checked, so the service could not check it again.
    condition     = !anytrue([for name in keys(var.settings) : startswith(name, "SERVICE_OIDC_")])
    error_message = "Behind Cloud Run's own check the service cannot check tokens; invokers says who may call."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "A setting's name has capital letters, digits and underscores."
  }
}

variable "more_secrets" {
  description = "Settings beside Datadog's keys and PII_SALT that get a secret: of EXPORT_WEBHOOK_SECRET, REVIEW_WEBHOOK_URL, REVIEW_WEBHOOK_SECRET and OTEL_EXPORTER_OTLP_HEADERS."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition = length(setsubtract(
      var.more_secrets,
      ["EXPORT_WEBHOOK_SECRET", "REVIEW_WEBHOOK_URL", "REVIEW_WEBHOOK_SECRET", "OTEL_EXPORTER_OTLP_HEADERS"],
    )) == 0
    error_message = "Only EXPORT_WEBHOOK_SECRET, REVIEW_WEBHOOK_URL, REVIEW_WEBHOOK_SECRET and OTEL_EXPORTER_OTLP_HEADERS can be had as further secrets."
  }
}

variable "ingress" {
  description = "Who can reach the service over the network, before anybody is asked who they are. People with gcloud run services proxy need INGRESS_TRAFFIC_ALL."
  type        = string
  nullable    = false
  default     = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  validation {
    condition = contains(
      ["INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "INGRESS_TRAFFIC_ALL"],
      var.ingress,
    )
    error_message = "Ingress is INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER or INGRESS_TRAFFIC_ALL."
  }
}

variable "invokers" {
  description = "Who may call the service beside the schedule, such as group:reviewers@example.com. Each may do everything: run, read, review, erase."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^(user|group|serviceAccount):[^@ ]+@[^@ ]+$", member))])
    error_message = "A caller is user:, group: or serviceAccount: with an address; never everybody."
  }
}

variable "public_hosts" {
  description = "Host names beside the service's own URL that callers may use, such as that of a load balancer."
  type        = set(string)
  nullable    = false
  default     = []
}

variable "schedule" {
  description = "When runs begin, as cron has it. What a run reads again for late data does not depend on it."
  type        = string
  nullable    = false
  default     = "*/15 * * * *"
}

variable "schedule_paused" {
  description = "Whether the schedule waits: for the first apply, an upgrade of indexes, or trouble."
  type        = bool
  nullable    = false
  default     = false
}

variable "audit_schedule" {
  description = "When everything that is stored is looked through for personal data, as cron has it; null for never."
  type        = string
  default     = "30 3 * * 0"
}

variable "time_zone" {
  description = "Time zone that the schedules are in."
  type        = string
  nullable    = false
  default     = "Etc/UTC"
}

variable "alert_emails" {
  description = "Addresses that alerts and the budget's warnings go to."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.alert_emails) > 0 && alltrue([for one in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", one))])
    error_message = "Alerts that nobody gets are none: give one address at least."
  }
}

variable "lag_alert_hours" {
  description = "After how many hours without a run that came up to now somebody is told. More than two periods of the schedule."
  type        = number
  nullable    = false
  default     = 3

  validation {
    condition     = var.lag_alert_hours >= 1 && var.lag_alert_hours <= 168 && floor(var.lag_alert_hours) == var.lag_alert_hours
    error_message = "A whole number from 1 to 168 (Datadog keeps 15 days: be told well before)."
  }
}

variable "dead_letters_alert" {
  description = "More items than this an hour that became dead letters are told."
  type        = number
  nullable    = false
  default     = 20

  validation {
    condition     = var.dead_letters_alert >= 0
    error_message = "A number from 0."
  }
}

variable "failed_runs_alert" {
  description = "More failures than this an hour are told. 0 tells of each one, though the next run may go on by itself."
  type        = number
  nullable    = false
  default     = 0

  validation {
    condition     = var.failed_runs_alert >= 0
    error_message = "A number from 0."
  }
}

variable "billing_account" {
  description = "Id of the billing account (XXXXXX-XXXXXX-XXXXXX) that the budget is set on; null, said on purpose, for no budget."
  type        = string

  validation {
    condition     = var.billing_account == null ? true : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "A billing account's id looks like 012345-6789AB-CDEF01."
  }
}

variable "monthly_budget" {
  description = "What the project may cost a month, in whole units of the billing account's currency, before people are told."
  type        = number
  nullable    = false
  default     = 50

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole number from 1."
  }
}
