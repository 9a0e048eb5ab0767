{{/*
Hooks go before everything else of the release, so they bring an account and a policy of their own. Takes
(list weight policy): jobs stay for a day, for the sake of their log, the rest goes when all went well.
*/}}
{{- define "controlplane.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ index . 0 | quote }}
helm.sh/hook-delete-policy: {{ index . 1 }}
{{- end -}}

{{/*
A job. Takes (dict "root" $ "name" … "weight" … "args" … "database" as databaseArgs takes it "extra" [{name, ref, …}] of further Secrets
"kek" whether it opens keyrings).
*/}}
{{- define "controlplane.job" -}}
{{- $root := .root -}}
{{- $self := list $root "setup" -}}
{{- $files := list -}}
{{- range $root.Values.secretFiles -}}{{- if get . "setup" -}}{{- $files = append $files . -}}{{- end -}}{{- end -}}
{{- $secrets := dict "root" $root "files" $files -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "keyward.fullname" $root }}-{{ .name }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "keyward.labels" $self | nindent 4 }}
  annotations:
    {{- include "controlplane.hook" (list .weight "before-hook-creation") | nindent 4 }}
spec:
  backoffLimit: {{ $root.Values.setup.backoffLimit }}
  activeDeadlineSeconds: {{ $root.Values.setup.activeDeadlineSeconds }}
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels:
        {{- include "keyward.labels" $self | nindent 8 }}
    spec:
      serviceAccountName: {{ include "keyward.fullname" $root }}-setup
      {{- include "keyward.podSpec" $root | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: {{ .name }}
          image: {{ include "keyward.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [keyward-controlplane]
          args:
            - {{ .name }}
            {{- include "controlplane.databaseArgs" .database | nindent 12 }}
            {{- if .kek }}
            {{- include "controlplane.kekArgs" $root | nindent 12 }}
            {{- end }}
            {{- range .args }}
            - {{ . }}
            {{- end }}
          {{- with include "controlplane.databaseEnv" .database | trim }}
          env:
            {{- . | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml $root.Values.setup.resources | nindent 12 }}
          {{- include "keyward.containerSecurity" $root | nindent 10 }}
          volumeMounts:
            {{- with include "controlplane.databaseMounts" .database | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with and (include "controlplane.referring" $root) (include "controlplane.secretMounts" $secrets | trim) }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with and .kek (include "controlplane.kekMounts" $root | trim) }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- range .extra }}
            - name: {{ .name }}
              mountPath: /etc/keyward/{{ .name }}
              readOnly: true
            {{- end }}
      volumes:
        {{- with include "controlplane.databaseVolumes" .database | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with and (include "controlplane.referring" $root) (include "controlplane.secretVolumes" $secrets | trim) }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with and .kek (include "controlplane.kekVolumes" $root | trim) }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- range .extra }}
        {{- include "keyward.secretVolume" . | nindent 8 }}
        {{- end }}
{{- end -}}
