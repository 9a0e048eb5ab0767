package charts_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// objects decodes manifests as strictly as the cluster's API can: an unknown or doubled field is an error, with its path.
func objects(manifests string) ([]runtime.Object, error) {
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	var all []runtime.Object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, document)
		}
		all = append(all, object)
	}
}

func mustObjects(t *testing.T, manifests string) []runtime.Object {
	t.Helper()
	all, err := objects(manifests)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// find returns the one object of type T with the name.
func find[T metav1.Object](t *testing.T, all []runtime.Object, name string) T {
	t.Helper()
	for _, object := range all {
		if o, ok := object.(T); ok && o.GetName() == name {
			return o
		}
	}
	var none T
	t.Fatalf("no %T with the name %s", none, name)
	return none
}

// workload is something that makes pods.
type workload struct {
	name string
	pod  corev1.PodTemplateSpec
}

func workloads(all []runtime.Object) []workload {
	var found []workload
	for _, object := range all {
		switch o := object.(type) {
		case *appsv1.Deployment:
			found = append(found, workload{"deployment " + o.Name, o.Spec.Template})
		case *batchv1.Job:
			found = append(found, workload{"job " + o.Name, o.Spec.Template})
		}
	}
	return found
}

func TestEveryDocumentIsStrictlyKubernetes(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		t.Run(g.chart+"/"+g.name, func(t *testing.T) {
			t.Parallel()
			all := mustObjects(t, g.manifests)
			if want := strings.Count(g.manifests, "\nkind: "); len(all) != want {
				t.Errorf("decoded %d documents of %d", len(all), want)
			}
			names := map[string]bool{}
			for _, object := range all {
				o := object.(metav1.Object)
				id := fmt.Sprintf("%T %s", object, o.GetName())
				if names[id] {
					t.Errorf("%s is there twice", id)
				}
				names[id] = true
				if o.GetNamespace() != namespace {
					t.Errorf("%s is in namespace %q, want %q", id, o.GetNamespace(), namespace)
				}
			}
		})
	}
}

func TestStrictDecodingFindsATypo(t *testing.T) {
	t.Parallel()
	manifests, _, err := render(gatewayChart)
	if err != nil {
		t.Fatal(err)
	}
	for _, typo := range [][2]string{
		{"readOnlyRootFilesystem:", "readOnlyRootFileSystem:"},
		{"containerPort: 8080", "containerPort: http"},
		{"replicas: 2", "replicas: 2\n  replicas: 3"},
	} {
		broken := strings.Replace(manifests, typo[0], typo[1], 1)
		if broken == manifests {
			t.Fatalf("%q is not rendered", typo[0])
		}
		if _, err := objects(broken); err == nil {
			t.Errorf("%q passed", typo[1])
		}
	}
}
