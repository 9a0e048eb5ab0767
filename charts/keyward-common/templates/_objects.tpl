{{/*
Takes (list $ component), like all here.
*/}}
{{- define "keyward.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "keyward.serviceAccountName" $root }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "keyward.labels" . | nindent 4 }}
  {{- with $root.Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- define "keyward.podDisruptionBudget" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "keyward.fullname" $root }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "keyward.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $root.Values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready protects nobody and must not hold up the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "keyward.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{/*
The part of a Service that its values decide. Takes the values.
*/}}
{{- define "keyward.serviceSpec" -}}
type: {{ .type }}
{{- if ne .type "ClusterIP" }}
externalTrafficPolicy: {{ .externalTrafficPolicy }}
{{- end }}
{{- with .loadBalancerClass }}
loadBalancerClass: {{ . | quote }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
A rule of a NetworkPolicy's ingress. An empty list of peers is everybody, as in Kubernetes.
Takes (dict "from" peers "ports" list).
*/}}
{{- define "keyward.ingressRule" -}}
- {{ with .from }}from:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
{{- end -}}

{{/*
The same for egress. Takes (dict "to" peers "ports" list).
*/}}
{{- define "keyward.egressRule" -}}
- {{ with .to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
{{- end -}}

{{- define "keyward.dnsRule" -}}
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- end -}}
