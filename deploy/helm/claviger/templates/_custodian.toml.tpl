{{/* One custodian's configuration: (dict "root" $ "instance" …). */}}
{{- define "claviger.custodianToml" -}}
{{- $root := .root -}}
{{- $instance := .instance -}}
{{- with $root.Values.custodian -}}
[custodian]
listen = "[::]:8200"
instance = {{ $instance.name | toJson }}
certificate_file = "${CREDENTIALS_DIRECTORY}/custodian.crt"
key_file = "${CREDENTIALS_DIRECTORY}/custodian.key"
client_ca_file = "${CREDENTIALS_DIRECTORY}/clients-ca.crt"
default_jurisdiction = {{ .defaultJurisdiction | toJson }}
drain_s = {{ int .drainSeconds }}

[store]
kind = "postgres"
address = {{ .store.address | required "custodian.store.address: postgres://USER@HOST/DATABASE" | toJson }}
{{- if .store.password.name }}
password_file = "${CREDENTIALS_DIRECTORY}/postgres"
{{- end }}
{{- if .store.ca.name }}
ca_file = "${CREDENTIALS_DIRECTORY}/postgres-ca.crt"
{{- end }}

{{ .seals | trim }}

[audit]
folder = "/var/lib/claviger/audit"
{{- with .witnesses }}
witnesses = {{ . | toJson }}
{{- end }}

[policy]
file = "policy.cedar"

[approvals]
required = {{ int .approvals.required }}
grants_required = {{ int .approvals.grantsRequired }}
{{- if $root.Values.metrics.enabled }}

[metrics]
listen = "[::]:{{ int $root.Values.metrics.port }}"
# By plain HTTP; the NetworkPolicy says who reaches it.
insecure_any_address = true
{{- end }}

[log]
format = {{ $root.Values.log.format | toJson }}
{{- with .extraConfig }}

{{ . | trim }}
{{- end }}
{{- end }}
{{- end }}
