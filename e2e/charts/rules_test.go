package charts_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// eachCase runs a check on everything that is rendered.
func eachCase(t *testing.T, check func(t *testing.T, g golden, all []runtime.Object)) {
	t.Helper()
	for _, g := range goldens(t) {
		t.Run(g.chart+"/"+g.name, func(t *testing.T) {
			t.Parallel()
			check(t, g, mustObjects(t, g.manifests))
		})
	}
}

// TestPodsAreRestricted holds every pod against the Restricted level of Kubernetes' pod security standards, and a
// read-only root on top.
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	eachCase(t, func(t *testing.T, g golden, all []runtime.Object) {
		for _, w := range workloads(all) {
			pod := w.pod.Spec
			if pod.HostNetwork || pod.HostPID || pod.HostIPC {
				t.Errorf("%s shares a namespace of its node", w.name)
			}
			if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
				t.Errorf("%s mounts a token of the cluster's API", w.name)
			}
			if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
				t.Errorf("%s gets KEYWARD_… variables that Kubernetes makes up", w.name)
			}
			s := pod.SecurityContext
			if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s may run as root or without seccomp: %v", w.name, s)
			}
			if g.name != "minimal" && (s.RunAsUser == nil || *s.RunAsUser != 65532 || s.FSGroup == nil) {
				t.Errorf("%s runs as %v", w.name, s.RunAsUser)
			}
			for _, c := range pod.Containers {
				checkContainer(t, w.name, c)
			}
			checkVolumes(t, w.name, pod.Volumes)
		}
	})
}

func checkContainer(t *testing.T, name string, c corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Privileged != nil ||
		s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("%s: container %s is not confined: %v", name, c.Name, s)
	}
	for _, env := range c.Env {
		if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
			t.Errorf("%s: %s puts a secret into the environment, where every child and every dump has it", name, env.Name)
		}
	}
}

// checkVolumes allows nothing of the node, and secrets only for their reader.
func checkVolumes(t *testing.T, name string, volumes []corev1.Volume) {
	t.Helper()
	for _, v := range volumes {
		var mode *int32
		switch {
		case v.Secret != nil:
			mode = v.Secret.DefaultMode
			if len(v.Secret.Items) == 0 {
				t.Errorf("%s: volume %s shows the whole Secret %s", name, v.Name, v.Secret.SecretName)
			}
		case v.Projected != nil:
			mode = v.Projected.DefaultMode
		case v.ConfigMap != nil:
			continue
		case v.PersistentVolumeClaim != nil && v.Name == "bundles": // what is in them is sealed
			continue
		case v.EmptyDir != nil:
			sealed := v.Name == "sealed-cache" // to a key that is in memory
			if (v.EmptyDir.Medium != corev1.StorageMediumMemory && !sealed) || v.EmptyDir.SizeLimit == nil {
				t.Errorf("%s: volume %s is on a disk or has no limit", name, v.Name)
			}
			continue
		default:
			t.Errorf("%s: volume %s is of a kind that no pod of ours has", name, v.Name)
			continue
		}
		if mode == nil || *mode != 0o440 {
			t.Errorf("%s: volume %s has mode %v, want 0440", name, v.Name, mode)
		}
	}
}

func TestDeploymentsAreProbedAndDrain(t *testing.T) {
	t.Parallel()
	eachCase(t, func(t *testing.T, g golden, all []runtime.Object) {
		for _, object := range all {
			d, ok := object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			if d.Spec.Strategy.RollingUpdate == nil || d.Spec.Strategy.RollingUpdate.MaxUnavailable.String() != "0" {
				t.Error("an update takes replicas away before others are ready")
			}
			pod := d.Spec.Template.Spec
			c := pod.Containers[0]
			for path, probe := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "status" {
					t.Errorf("probe of %s is %v", path, probe)
				}
			}
			if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil || pod.TerminationGracePeriodSeconds == nil {
				t.Fatal("no orderly end")
			}
			grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
			needed := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + drainTime(t, c.Args)
			if grace <= needed {
				t.Errorf("killed after %s, but needs %s", grace, needed)
			}
			if g.name != "minimal" && (c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero()) {
				t.Errorf("resources are %v", c.Resources)
			}
			if spread := pod.TopologySpreadConstraints; g.name != "minimal" && len(spread) != 2 {
				t.Errorf("spread is %v", spread)
			}
		}
	})
}

// drainTime is how long the process may take after SIGTERM. The control plane's is fixed.
func drainTime(t *testing.T, args []string) time.Duration {
	t.Helper()
	for _, arg := range args {
		if text, ok := strings.CutPrefix(arg, "--drain-timeout="); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	return 10 * time.Second
}

// TestSelectorsChooseTheirPodsOnly finds Services, budgets and policies whose labels drift from the pods', or catch the
// pods of the setup jobs too.
func TestSelectorsChooseTheirPodsOnly(t *testing.T) {
	t.Parallel()
	eachCase(t, func(t *testing.T, _ golden, all []runtime.Object) {
		chosen := map[string]labels.Selector{}
		for _, object := range all {
			switch o := object.(type) {
			case *corev1.Service:
				chosen["service "+o.Name] = labels.SelectorFromSet(o.Spec.Selector)
			case *policyv1.PodDisruptionBudget:
				chosen["budget "+o.Name] = selector(t, o.Spec.Selector)
			case *networkingv1.NetworkPolicy:
				chosen["policy "+o.Name] = selector(t, &o.Spec.PodSelector)
			}
		}
		for name, s := range chosen {
			var matched []string
			for _, w := range workloads(all) {
				if s.Matches(labels.Set(w.pod.Labels)) {
					matched = append(matched, w.name)
				}
			}
			setup := strings.HasSuffix(name, "-setup")
			if setup && len(matched) != 2 || !setup && len(matched) != 1 {
				t.Errorf("%s chooses %v", name, matched)
			}
		}
	})
}

func selector(t *testing.T, s *metav1.LabelSelector) labels.Selector {
	t.Helper()
	made, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || made.Empty() {
		t.Fatalf("selector %v: %v", s, err)
	}
	return made
}

// TestNetworkIsClosedByDefault expects a policy in both directions for every pod unless the values say otherwise.
func TestNetworkIsClosedByDefault(t *testing.T) {
	t.Parallel()
	eachCase(t, func(t *testing.T, g golden, all []runtime.Object) {
		var policies []*networkingv1.NetworkPolicy
		for _, object := range all {
			if p, ok := object.(*networkingv1.NetworkPolicy); ok {
				policies = append(policies, p)
			}
		}
		if g.name == "minimal" {
			if len(policies) > 0 {
				t.Error("there are policies though they are switched off")
			}
			return
		}
		for _, w := range workloads(all) {
			covered := 0
			for _, p := range policies {
				if selector(t, &p.Spec.PodSelector).Matches(labels.Set(w.pod.Labels)) && len(p.Spec.PolicyTypes) == 2 {
					covered++
				}
			}
			if covered != 1 {
				t.Errorf("%s is covered by %d policies", w.name, covered)
			}
		}
		for _, p := range policies {
			for _, rule := range p.Spec.Egress {
				if len(rule.To) == 0 && len(rule.Ports) == 0 {
					t.Errorf("%s lets everything out", p.Name)
				}
			}
		}
	})
}

// TestSetupRunsInOrder expects account and policy before migrate before bootstrap, all before the rest of the release.
func TestSetupRunsInOrder(t *testing.T) {
	t.Parallel()
	eachCase(t, func(t *testing.T, g golden, all []runtime.Object) {
		if g.chart != controlPlaneChart || g.name == "minimal" {
			return
		}
		weight := func(o metav1.Object) int {
			a := o.GetAnnotations()
			if a["helm.sh/hook"] != "pre-install,pre-upgrade" || !strings.Contains(a["helm.sh/hook-delete-policy"], "before-hook-creation") {
				t.Errorf("%s is no hook that can run again: %v", o.GetName(), a)
			}
			n, err := strconv.Atoi(a["helm.sh/hook-weight"])
			if err != nil {
				t.Errorf("%s: weight: %v", o.GetName(), err)
			}
			return n
		}
		account := weight(find[*corev1.ServiceAccount](t, all, controlPlaneChart+"-setup"))
		policy := weight(find[*networkingv1.NetworkPolicy](t, all, controlPlaneChart+"-setup"))
		migrate := weight(find[*batchv1.Job](t, all, controlPlaneChart+"-migrate"))
		bootstrap := weight(find[*batchv1.Job](t, all, controlPlaneChart+"-bootstrap"))
		if account >= migrate || policy >= migrate || migrate >= bootstrap {
			t.Errorf("weights: account %d, policy %d, migrate %d, bootstrap %d", account, policy, migrate, bootstrap)
		}
	})
}

// TestOwnersPasswordStaysWithMigrate: the URL of the schema's owner is mounted into that one job.
func TestOwnersPasswordStaysWithMigrate(t *testing.T) {
	t.Parallel()
	manifests, _, err := render(controlPlaneChart, map[string]any{
		"database": map[string]any{"ownerURL": map[string]any{"secret": "only-for-the-owner"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads(mustObjects(t, manifests)) {
		has := slices.ContainsFunc(w.pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Secret != nil && v.Secret.SecretName == "only-for-the-owner"
		})
		if want := strings.HasSuffix(w.name, "-migrate"); has != want {
			t.Errorf("%s has the owner's URL: %v", w.name, has)
		}
	}
}

// TestBootstrapCanBeLeftOut: then nothing refers to the first admin token any more, and its Secret can go.
func TestBootstrapCanBeLeftOut(t *testing.T) {
	t.Parallel()
	manifests, notes, err := render(controlPlaneChart, values("setup.bootstrap", false), values("adminToken.secret", "gone"))
	if err != nil {
		t.Fatal(err)
	}
	find[*batchv1.Job](t, mustObjects(t, manifests), controlPlaneChart+"-migrate")
	if strings.Contains(manifests, "bootstrap") || strings.Contains(manifests, "gone") {
		t.Errorf("bootstrap is still rendered:\n%s", manifests)
	}
	if strings.Contains(notes, "gone") {
		t.Errorf("the notes send people to a Secret that is gone:\n%s", notes)
	}
}
