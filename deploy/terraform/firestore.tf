# The indexes are those of deploy/firestore, which `evalforge firestore indexes` writes and tests hold against the queries.

locals {
  declared = jsondecode(file("${path.module}/../firestore/firestore.indexes.json"))

  # The file is written for the default prefix.
  composites = {
    for index in local.declared.indexes :
    join("/", concat([index.collectionGroup], [for one in index.fields : "${one.fieldPath}:${try(one.order, one.arrayConfig)}"])) => {
      collection = replace(index.collectionGroup, "/^evalforge_/", var.collection_prefix)
      scope      = index.queryScope
      fields     = index.fields
    }
  }
  fields = {
    for one in local.declared.fieldOverrides :
    "${one.collectionGroup}/${one.fieldPath}" => {
      collection = replace(one.collectionGroup, "/^evalforge_/", var.collection_prefix)
      field      = one.fieldPath
      expires    = one.ttl
      indexes    = one.indexes
    }
  }
}

resource "google_firestore_database" "captures" {
  project     = var.project
  name        = var.database
  location_id = var.firestore_location
  type        = "FIRESTORE_NATIVE"

  # `terraform destroy` leaves the captures alone, and so does everybody else.
  delete_protection_state = "DELETE_PROTECTION_ENABLED"
  deletion_policy         = "ABANDON"
  # Off on purpose: it would keep what was erased readable for 7 more days.
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_DISABLED"

  depends_on = [google_project_service.used]
}

resource "google_firestore_index" "composite" {
  for_each = local.composites

  project     = var.project
  database    = google_firestore_database.captures.name
  collection  = each.value.collection
  query_scope = each.value.scope

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.fieldPath
      order        = try(fields.value.order, null)
      array_config = try(fields.value.arrayConfig, null)
    }
  }
}

resource "google_firestore_field" "named" {
  for_each = { for key, one in local.fields : key => one if one.field != "*" }

  project    = var.project
  database   = google_firestore_database.captures.name
  collection = each.value.collection
  field      = each.value.field

  # Without an index in it the block exempts the field.
  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        order        = try(indexes.value.order, null)
        array_config = try(indexes.value.arrayConfig, null)
        query_scope  = indexes.value.queryScope
      }
    }
  }

  dynamic "ttl_config" {
    for_each = each.value.expires ? [true] : []
    content {}
  }
}

# All other fields are exempt, and last: a database in use keeps the indexes that its queries need.
resource "google_firestore_field" "others" {
  for_each = { for key, one in local.fields : key => one if one.field == "*" }

  project    = var.project
  database   = google_firestore_database.captures.name
  collection = each.value.collection
  field      = "*"

  index_config {}

  depends_on = [google_firestore_field.named, google_firestore_index.composite]
}

# Browsers and phones are refused; service accounts are not asked, IAM says what they may do.
resource "google_firebaserules_ruleset" "deny" {
  project = var.project

  source {
    files {
      name    = "firestore.rules"
      content = file("${path.module}/../firestore/firestore.rules")
    }
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_firestore_database.captures, google_project_service.used]
}

resource "google_firebaserules_release" "deny" {
  project      = var.project
  name         = "cloud.firestore/${google_firestore_database.captures.name}"
  ruleset_name = "projects/${var.project}/rulesets/${google_firebaserules_ruleset.deny.name}"

  lifecycle {
    replace_triggered_by = [google_firebaserules_ruleset.deny]
  }
}
