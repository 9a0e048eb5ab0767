package charts_test

import (
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
)

// cluster answers Helm's lookups.
type cluster struct{ client dynamic.Interface }

func (c cluster) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return c.client.Resource(schema.GroupVersionResource{Version: apiVersion, Resource: "secrets"}), kind == "Secret", nil
}

// TestChangedSecretsReplacePods: processes read most Secrets only at the start, so an upgrade after one has changed has to
// bring new pods, and no other upgrade.
func TestChangedSecretsReplacePods(t *testing.T) {
	t.Parallel()
	annotation := func(secret, version string) string {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{"name": secret, "namespace": namespace, "resourceVersion": version},
		}}
		c, err := loader.Load(chartDir(controlPlaneChart))
		if err != nil {
			t.Fatal(err)
		}
		top, err := util.ToRenderValues(c, nil, common.ReleaseOptions{Name: controlPlaneChart, Namespace: namespace}, common.DefaultCapabilities)
		if err != nil {
			t.Fatal(err)
		}
		files, err := engine.RenderWithClientProvider(c, top, cluster{fake.NewSimpleDynamicClient(runtime.NewScheme(), object)})
		if err != nil {
			t.Fatal(err)
		}
		all := mustObjects(t, files[controlPlaneChart+"/templates/deployment.yaml"])
		return find[*appsv1.Deployment](t, all, controlPlaneChart).Spec.Template.Annotations["checksum/secrets"]
	}
	before := annotation("keyward-kek", "1")
	if before == "" || before != annotation("keyward-kek", "1") {
		t.Errorf("the annotation is empty or changes by itself: %q", before)
	}
	if annotation("keyward-kek", "2") == before {
		t.Error("another key, but the same pods")
	}
	if annotation("unrelated", "1") != annotation("unrelated", "2") {
		t.Error("a Secret that is not mounted replaces pods")
	}
}
