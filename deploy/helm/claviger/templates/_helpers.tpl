{{- define "claviger.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "claviger.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What a selector goes by: (dict "root" $ "component" "proxy"). */}}
{{- define "claviger.selector" -}}
app.kubernetes.io/name: claviger
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "claviger.labels" -}}
{{ include "claviger.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What all pods have in common: nobody's privileges, and no token of the cluster. */}}
{{- define "claviger.pod" -}}
serviceAccountName: {{ include "claviger.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "claviger.container" -}}
image: {{ include "claviger.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes of the listener for metrics, or else of the port itself: (dict "root" $ "port" 8443). */}}
{{- define "claviger.probes" -}}
{{- if .root.Values.metrics.enabled }}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- else }}
readinessProbe:
  tcpSocket: {port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 2
{{- end }}
{{- end }}

{{/* A projected file, read by the program's group alone: (list SECRET KEY PATH). */}}
{{- define "claviger.file" -}}
- secret:
    name: {{ index . 0 | quote }}
    items: [{key: {{ index . 1 | quote }}, path: {{ index . 2 | quote }}}]
{{- end }}

{{- define "claviger.custodianUrls" -}}
{{- $root := . -}}
{{- $urls := .Values.proxy.custodian.urls -}}
{{- if not $urls -}}
{{- $urls = list -}}
{{- range .Values.custodian.instances -}}
{{- $urls = append $urls (printf "https://%s-%s.%s.svc:8200" (include "claviger.name" $root) .name $root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- if and (not $urls) .Values.proxy.enabled -}}
{{- fail "proxy.custodian.urls is empty, and custodian.instances, too: say where the custodian is" -}}
{{- end -}}
{{- $urls | toJson -}}
{{- end }}

{{/* The credentials of whatever works with the proxies' configuration. */}}
{{- define "claviger.proxyCredentials" -}}
name: credentials
projected:
  defaultMode: 0440
  sources:
    {{- with .Values.proxy.tls.secretName | required "proxy.tls.secretName: the secret with the proxies' certificate" }}
    {{- include "claviger.file" (list . "tls.crt" "proxy.crt") | nindent 4 }}
    {{- include "claviger.file" (list . "tls.key" "proxy.key") | nindent 4 }}
    {{- end }}
    {{- with .Values.proxy.custodianClient.secretName | required "proxy.custodianClient.secretName: the secret with the proxies' identity" }}
    {{- include "claviger.file" (list . "tls.crt" "proxy-client.crt") | nindent 4 }}
    {{- include "claviger.file" (list . "tls.key" "proxy-client.key") | nindent 4 }}
    {{- include "claviger.file" (list . "ca.crt" "ca.crt") | nindent 4 }}
    {{- end }}
    {{- with .Values.proxy.storage.secret }}
    {{- include "claviger.file" (list (.name | required "proxy.storage.secret.name: the secret of the proxies' access key") .key "storage.key") | nindent 4 }}
    {{- end }}
    {{- if .Values.proxy.storage.ca.name }}
    {{- include "claviger.file" (list .Values.proxy.storage.ca.name .Values.proxy.storage.ca.key "storage-ca.crt") | nindent 4 }}
    {{- end }}
    {{- range .Values.proxy.clients }}
    {{- include "claviger.file" (list .secret.name .secret.key (printf "client-%s" .accessKey)) | nindent 4 }}
    {{- end }}
    {{- range .Values.proxy.extraSecrets }}
    {{- include "claviger.file" (list .name .key .path) | nindent 4 }}
    {{- end }}
{{- end }}
