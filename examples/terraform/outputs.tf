output "latest_versions" {
  description = "The newest version of each key"
  value       = { for name, key in vault_transit_secret_backend_key.kek : name => key.latest_version }
}
