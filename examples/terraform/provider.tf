# The custodian speaks the Transit subset of Vault's API, over mutual TLS alone: the certificate is the identity, and the
# token of its login is good only together with it. OpenTofu runs the same files.
provider "vault" {
  address      = var.custodian_url
  ca_cert_file = var.ca_file

  auth_login_cert {
    cert_file = var.certificate_file
    key_file  = var.key_file
  }

  # The custodian gives out no tokens for others.
  skip_child_token = true
}
