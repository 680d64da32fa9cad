{{/* The proxies' configuration. Texts and lists are written as JSON, which in these places is TOML as well. */}}
{{- define "claviger.proxyToml" -}}
{{- with .Values.proxy -}}
[proxy]
listen = "[::]:8443"
region = {{ $.Values.region | toJson }}
domains = {{ .domains | toJson }}
certificate_file = "${CREDENTIALS_DIRECTORY}/proxy.crt"
key_file = "${CREDENTIALS_DIRECTORY}/proxy.key"
drain_s = {{ int .drainSeconds }}

[storage]
url = {{ .storage.url | required "proxy.storage.url: the storage server" | toJson }}
region = {{ .storage.region | toJson }}
addressing = {{ .storage.addressing | toJson }}
access_key = {{ .storage.accessKey | toJson }}
secret_key_file = "${CREDENTIALS_DIRECTORY}/storage.key"
{{- if .storage.ca.name }}
ca_file = "${CREDENTIALS_DIRECTORY}/storage-ca.crt"
{{- end }}
state_bucket = {{ .storage.stateBucket | toJson }}

[custodian]
kind = "transit"
urls = {{ include "claviger.custodianUrls" $ }}
ca_file = "${CREDENTIALS_DIRECTORY}/ca.crt"
certificate_file = "${CREDENTIALS_DIRECTORY}/proxy-client.crt"
key_file = "${CREDENTIALS_DIRECTORY}/proxy-client.key"
watch = {{ .custodian.watch }}
{{- if .defaultKek }}

[default_bucket]
kek = {{ .defaultKek | toJson }}
{{- end }}
{{- range .buckets }}

[[bucket]]
name = {{ .name | toJson }}
kek = {{ .kek | toJson }}
{{- with .storageName }}
storage_name = {{ . | toJson }}
{{- end }}
{{- with .furtherKeks }}
further_keks = {{ . | toJson }}
{{- end }}
{{- with .formerKeks }}
former_keks = {{ . | toJson }}
{{- end }}
{{- with .acceptWriters }}
accept_writers = {{ . | toJson }}
{{- end }}
{{- end }}
{{- range .clients }}

[[client]]
access_key = {{ .accessKey | toJson }}
secret_key_file = {{ printf "${CREDENTIALS_DIRECTORY}/client-%s" .accessKey | toJson }}
principal = {{ .principal | toJson }}
{{- with .reason }}
reason = {{ . | toJson }}
{{- end }}
{{- range .grants }}

[[client.grant]]
buckets = {{ .buckets | toJson }}
access = {{ .access | toJson }}
{{- end }}
{{- end }}
{{- if $.Values.metrics.enabled }}

[metrics]
listen = "[::]:{{ int $.Values.metrics.port }}"
# By plain HTTP; the NetworkPolicy says who reaches it.
insecure_any_address = true
{{- end }}

[log]
format = {{ $.Values.log.format | toJson }}
{{- with .extraConfig }}

{{ . | trim }}
{{- end }}
{{- end }}
{{- end }}
