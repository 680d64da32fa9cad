# The KEKs. What Terraform may do with them is what one officer may do alone: make them, and set when they rotate. Raising
# min_decryption_version, deletion_allowed, exportable and deleting need two more officers; the custodian answers 403
# "approval required" with the id of a proposal, and the same run works once they have approved.
resource "vault_transit_secret_backend_key" "kek" {
  for_each = var.keys

  backend = "transit"
  name    = each.key
  type    = "aes256-gcm96"

  # Branch keys are bound to their context through it; it cannot be set later.
  derived            = true
  auto_rotate_period = each.value.rotate_every_s

  deletion_allowed       = false
  exportable             = false
  allow_plaintext_backup = false

  lifecycle {
    # Records cannot be read without it.
    prevent_destroy = true
    # They are raised by `claviger key retire`, which looks first whether anything needs them still.
    ignore_changes = [min_decryption_version, min_encryption_version]
  }
}
