variable "custodian_url" {
  description = "Where the custodian is, such as https://custodian.example.org:8200"
  type        = string

  validation {
    condition     = startswith(var.custodian_url, "https://")
    error_message = "The custodian is spoken to by TLS alone."
  }
}

variable "ca_file" {
  description = "PEM file of the CA that signed the custodian's certificate"
  type        = string
}

variable "certificate_file" {
  description = "PEM file of the officer's certificate, as whom keys are made"
  type        = string
}

variable "key_file" {
  description = "PEM file of that certificate's key"
  type        = string
  sensitive   = true
}

variable "keys" {
  description = "The keys by name, each with the seconds between two rotations; 0 for none by itself"
  type        = map(object({ rotate_every_s = optional(number, 7776000) }))
  default = {
    records = {}
    payroll = { rotate_every_s = 2592000 }
  }
}
