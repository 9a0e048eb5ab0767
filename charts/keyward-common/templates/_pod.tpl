{{/*
What every pod of ours has in common. A token of the cluster's API is mounted nowhere: no process calls it. Service links
are off because they would fill the environment with KEYWARD_… variables that look like settings.
*/}}
{{- define "keyward.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with get .Values.runAs "user" }}
  runAsUser: {{ int64 . }}
  {{- end }}
  {{- with get .Values.runAs "group" }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Where the pods of a Deployment go. Takes (list $ component).
*/}}
{{- define "keyward.placement" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ .topologyKey | quote }}
    maxSkew: {{ .maxSkew }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "keyward.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{- define "keyward.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/*
Probes of the status port. A replica that waits for its database or control plane is alive and not ready.
*/}}
{{- define "keyward.probes" -}}
livenessProbe:
  httpGet:
    path: /livez
    port: status
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: status
  {{- toYaml .Values.probes.readiness | nindent 2 }}
{{- end -}}

{{/*
A volume with one key of an existing Secret. Takes (dict "name" volume "ref" {secret, key}).
*/}}
{{- define "keyward.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .ref.secret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .ref.key | quote }}
        path: {{ .ref.key | quote }}
{{- end -}}

{{/*
A volume with the certificate and key of an existing Secret of type kubernetes.io/tls. Takes (dict "name" "secret").
*/}}
{{- define "keyward.tlsVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret | quote }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end -}}

{{/*
Changes when one of the Secrets does, so that an upgrade replaces pods that read theirs only at the start. The version the
cluster gives a Secret, not its content: the annotation is readable by more people. Takes (list $ name…).
*/}}
{{- define "keyward.secretVersions" -}}
{{- $root := index . 0 -}}
{{- $versions := list -}}
{{- range rest . | uniq | sortAlpha -}}
{{- $secret := lookup "v1" "Secret" $root.Release.Namespace . -}}
{{- $versions = append $versions (printf "%s=%s" . (dig "metadata" "resourceVersion" "" $secret)) -}}
{{- end -}}
{{- join "," $versions | sha256sum -}}
{{- end -}}

{{/*
Folders with certificates and private keys, of existing Secrets. Take the value certificateRoots.
*/}}
{{- define "keyward.certificateMounts" -}}
{{- range . }}
- name: certificates-{{ .name }}
  mountPath: /etc/keyward/certificates/{{ .name }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "keyward.certificateVolumes" -}}
{{- range . }}
- name: certificates-{{ .name }}
  secret:
    secretName: {{ .secret | quote }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- end -}}
