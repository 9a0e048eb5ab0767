{{/*
Settings of every command that opens the database. Takes (dict "root" $ "ref" which URL "reference" to where it is instead
"runtime" whether as the runtime role); the same do the next three.
*/}}
{{- define "controlplane.databaseArgs" -}}
{{- $root := .root -}}
{{- if not .reference -}}
- --database-url-file=/etc/keyward/database/{{ .ref.key }}
{{ end -}}
{{- if include "controlplane.databasePassword" . -}}
- --database-password-file=/etc/keyward/database-password/{{ $root.Values.database.password.key }}
{{ end -}}
{{- if $root.Values.database.insecure -}}
- --insecure-database
{{ end -}}
- --log-level={{ $root.Values.log.level }}
- --log-format={{ $root.Values.log.format }}
{{- end -}}

{{/*
Not empty if the password is in a file of its own.
*/}}
{{- define "controlplane.databasePassword" -}}
{{- if and .runtime .root.Values.database.password.secret -}}yes{{- end -}}
{{- end -}}

{{- define "controlplane.databaseMounts" -}}
{{- if not .reference }}
- name: database
  mountPath: /etc/keyward/database
  readOnly: true
{{- end }}
{{- if include "controlplane.databasePassword" . }}
- name: database-password
  mountPath: /etc/keyward/database-password
  readOnly: true
{{- end }}
{{- if .root.Values.database.ca.secret }}
- name: database-ca
  mountPath: /etc/keyward/database-ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "controlplane.databaseVolumes" -}}
{{- if not .reference }}
{{ include "keyward.secretVolume" (dict "name" "database" "ref" .ref) }}
{{- end }}
{{- if include "controlplane.databasePassword" . }}
{{ include "keyward.secretVolume" (dict "name" "database-password" "ref" .root.Values.database.password) }}
{{- end }}
{{- with .root.Values.database.ca }}
{{- if .secret }}
{{ include "keyward.secretVolume" (dict "name" "database-ca" "ref" .) }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The driver takes the authority from here unless the URL names one. A reference is no secret: it says where one is.
*/}}
{{- define "controlplane.databaseEnv" -}}
{{- with .root.Values.database.ca }}
{{- if .secret }}
- name: PGSSLROOTCERT
  value: /etc/keyward/database-ca/{{ .key }}
{{- end }}
{{- end }}
{{- with .reference }}
- name: KEYWARD_DATABASE_URL
  value: {{ . | quote }}
{{- end }}
{{- if .runtime }}
{{- with .root.Values.database.references.user }}
- name: KEYWARD_DATABASE_USER
  value: {{ . | quote }}
{{- end }}
{{- with .root.Values.database.references.password }}
- name: KEYWARD_DATABASE_PASSWORD
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Not empty if settings of ours are in Vault.
*/}}
{{- define "controlplane.referring" -}}
{{- with .Values.database.references -}}
{{- if or .url .ownerURL .user .password -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Not empty if Vault is asked for secrets, by us or for groups.
*/}}
{{- define "controlplane.secretService" -}}
{{- include "controlplane.referring" . -}}
{{- range .Values.secretProviders -}}
{{- if or (contains "=vault:" .) (contains "=aws:" .) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What providers and references of secrets read: files, and a token to log in with. Takes (dict "root" $ "files" which of them).
*/}}
{{- define "controlplane.secretMounts" -}}
{{- range $i, $file := .files }}
- name: secret-file-{{ $i }}
  mountPath: /etc/keyward/secret-files/{{ $file.secret }}
  readOnly: true
{{- end }}
{{- if .root.Values.secretTokenAudience }}
- name: secret-token
  mountPath: /etc/keyward/secret-token
  readOnly: true
{{- end }}
{{- end -}}

{{- define "controlplane.secretVolumes" -}}
{{- range $i, $file := .files }}
- name: secret-file-{{ $i }}
  secret:
    secretName: {{ $file.secret | quote }}
    defaultMode: 0440
    items:
      {{- range $file.keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- with .root.Values.secretTokenAudience }}
- name: secret-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ . | quote }}
          expirationSeconds: 3600
{{- end }}
{{- end -}}

{{/*
Names by which gateways and people inside the cluster call the Services, for the certificates of the internal authority.
*/}}
{{- define "controlplane.syncNames" -}}
{{- $names := list "localhost" "127.0.0.1" "::1" -}}
{{- range list "" "-admin" -}}
{{- $service := printf "%s%s" (include "keyward.fullname" $) . -}}
{{- $names = concat $names (list $service (printf "%s.%s" $service $.Release.Namespace) (printf "%s.%s.svc" $service $.Release.Namespace) (printf "%s.%s.svc.cluster.local" $service $.Release.Namespace)) -}}
{{- end -}}
{{- join "," (concat $names .Values.sync.names) -}}
{{- end -}}

{{/*
Settings of every command that opens keyrings.
*/}}
{{- define "controlplane.kekArgs" -}}
{{- if .Values.kek.uri -}}
- {{ printf "--kek-uri=%s" .Values.kek.uri | quote }}
{{- else -}}
- --kek-file=/etc/keyward/kek/{{ .Values.kek.key }}
{{- end }}
{{- range .Values.kek.retired }}
- {{ printf "--kek-retired=%s" . | quote }}
{{- end }}
{{- range .Values.kek.next }}
- {{ printf "--kek-next=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "controlplane.kekMounts" -}}
{{- if not .Values.kek.uri }}
- name: kek
  mountPath: /etc/keyward/kek
  readOnly: true
{{- end }}
{{- range $i, $file := .Values.kek.files }}
- name: kek-file-{{ $i }}
  mountPath: /etc/keyward/kek-files/{{ $file.secret }}
  readOnly: true
{{- end }}
{{- if .Values.kek.tokenAudience }}
- name: kek-token
  mountPath: /etc/keyward/kek-token
  readOnly: true
{{- end }}
{{- end -}}

{{- define "controlplane.kekVolumes" -}}
{{- if not .Values.kek.uri }}
{{ include "keyward.secretVolume" (dict "name" "kek" "ref" (pick .Values.kek "secret" "key")) }}
{{- end }}
{{- range $i, $file := .Values.kek.files }}
- name: kek-file-{{ $i }}
  secret:
    secretName: {{ $file.secret | quote }}
    defaultMode: 0440
    items:
      {{- range $file.keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- with .Values.kek.tokenAudience }}
- name: kek-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ . | quote }}
          expirationSeconds: 3600
{{- end }}
{{- end -}}

{{/*
Not empty if a key is kept by a service.
*/}}
{{- define "controlplane.kekService" -}}
{{- range concat (list .Values.kek.uri) .Values.kek.retired .Values.kek.next -}}
{{- if or (hasPrefix "vault:" .) (hasPrefix "vaultkv:" .) (hasPrefix "awskms:" .) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- define "controlplane.secretNames" -}}
{{- $v := .Values -}}
{{- $names := list -}}
{{- if not $v.database.references.url -}}{{- $names = append $names $v.database.url.secret -}}{{- end -}}
{{- if not $v.kek.uri -}}{{- $names = append $names $v.kek.secret -}}{{- end -}}
{{- range $v.kek.files -}}{{- $names = append $names .secret -}}{{- end -}}
{{- if $v.database.ca.secret -}}{{- $names = append $names $v.database.ca.secret -}}{{- end -}}
{{- if and $v.bundle.s3.url (not $v.bundle.claim) -}}{{- $names = append $names $v.bundle.s3.credentials.secret -}}{{- end -}}
{{- join "," $names -}}
{{- end -}}
