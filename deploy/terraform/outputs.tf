output "url" {
  description = "The service's URL: what callers with an ID token for this audience call."
  value       = local.url
}

output "service_uri" {
  description = "The URL that Cloud Run tells; where its host is another one, gcloud run services proxy needs it in public_hosts."
  value       = google_cloud_run_v2_service.ingestion.uri
}

output "secrets" {
  description = "The secrets by setting; each needs a version, which a person adds."
  value       = { for name, secret in google_secret_manager_secret.settings : name => secret.secret_id }
}

output "schedule" {
  description = "The schedule's job, for gcloud scheduler jobs run, pause and resume."
  value       = google_cloud_scheduler_job.ingest.name
}

output "database" {
  description = "The Firestore database, for FIRESTORE_DATABASE of commands that a person runs."
  value       = google_firestore_database.captures.name
}
