terraform {
  # 1.9 is the first whose validations may look at other variables.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # The budget's API takes a person's credentials only together with a project that pays for the call.
  user_project_override = true
  billing_project       = var.project
}
