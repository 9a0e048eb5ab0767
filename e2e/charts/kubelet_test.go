package charts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit"
)

// kubelet starts containers as this machine's processes, with exactly the arguments and environment of the manifest. What
// it changes are the places: mounted files lie in a directory of the test, ports are free ones of the loopback address.
type kubelet struct {
	t *testing.T
	// objects are all that was rendered; Services and ConfigMaps are found in them.
	objects []runtime.Object
	// secrets are the Secrets that exist, and what is in them.
	secrets map[string]map[string]string
	// accountToken is what a projected service-account token holds.
	accountToken string
	// local is the address here of a port that a container opened, by service name and port's name.
	local map[string]string
}

// container is a running one.
type container struct {
	process *child.Child
	pod     corev1.PodSpec
	ports   map[string]string // the port's name → address here
	log     string            // file
}

// program finds what the image would hold.
func program(t *testing.T, c corev1.Container) string {
	t.Helper()
	if len(c.Command) != 1 {
		t.Fatalf("command is %v, want one name that the image's PATH has", c.Command)
	}
	return binary(t, c.Command[0])
}

func binary(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("KEYWARD_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run \"make build\" before, or set KEYWARD_BIN", err)
	}
	return path
}

// command is the container's process, not yet started.
func (k *kubelet) command(pod corev1.PodSpec) (*exec.Cmd, map[string]string) {
	k.t.Helper()
	c := pod.Containers[0]
	mounts := k.mount(pod)
	ports := map[string]string{}
	replace := map[string]string{}
	for _, p := range c.Ports {
		ports[p.Name] = testkit.Addr(k.t)
		replace["=:"+strconv.Itoa(int(p.ContainerPort))] = "=" + ports[p.Name]
	}
	cmd := exec.Command(program(k.t, c))
	cmd.Env = []string{} // nil would be ours
	for _, arg := range c.Args {
		cmd.Args = append(cmd.Args, k.translate(arg, mounts, replace))
	}
	for _, env := range c.Env {
		value := env.Value
		if env.ValueFrom != nil {
			if env.ValueFrom.FieldRef == nil || env.ValueFrom.FieldRef.FieldPath != "metadata.name" {
				k.t.Fatalf("%s comes from where this test does not know", env.Name)
			}
			value = "pod-of-the-test"
		}
		cmd.Env = append(cmd.Env, env.Name+"="+k.translate(value, mounts, nil))
	}
	return cmd, ports
}

// translate puts this machine's places into an argument.
func (k *kubelet) translate(text string, mounts, ports map[string]string) string {
	k.t.Helper()
	for from, to := range ports {
		if rest, ok := strings.CutSuffix(text, from); ok {
			text = rest + to
		}
	}
	if address, ok := strings.CutPrefix(text, "--control-plane="); ok {
		text = "--control-plane=" + k.resolve(address)
	}
	inMount := false
	for from, to := range mounts {
		if strings.Contains(text, "="+from+"/") || strings.HasSuffix(text, "="+from) || strings.HasPrefix(text, from+"/") {
			text, inMount = strings.Replace(text, from, to, 1), true
		}
	}
	if !inMount && (strings.Contains(text, "=/") || strings.HasPrefix(text, "/")) {
		k.t.Errorf("%s is a path that no volume is mounted at", text)
	}
	return text
}

// resolve goes the way of a connection in the cluster: Service, port, target port, container.
func (k *kubelet) resolve(address string) string {
	k.t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		k.t.Fatal(err)
	}
	service := find[*corev1.Service](k.t, k.objects, host)
	for _, p := range service.Spec.Ports {
		if strconv.Itoa(int(p.Port)) == port {
			if local := k.local[host+":"+p.TargetPort.StrVal]; local != "" {
				return local
			}
		}
	}
	k.t.Fatalf("nothing answers at %s", address)
	return ""
}

// mount fills a directory for every volume and returns mount path → directory.
func (k *kubelet) mount(pod corev1.PodSpec) map[string]string {
	k.t.Helper()
	volumes := map[string]string{}
	for _, v := range pod.Volumes {
		dir := k.t.TempDir()
		volumes[v.Name] = dir
		switch {
		case v.Secret != nil:
			k.project(dir, v.Secret.SecretName, k.secrets[v.Secret.SecretName], v.Secret.Items)
		case v.ConfigMap != nil:
			k.project(dir, v.ConfigMap.Name, find[*corev1.ConfigMap](k.t, k.objects, v.ConfigMap.Name).Data, v.ConfigMap.Items)
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				k.write(filepath.Join(dir, source.ServiceAccountToken.Path), k.accountToken)
			}
		}
	}
	mounts := map[string]string{}
	for _, m := range pod.Containers[0].VolumeMounts {
		dir, ok := volumes[m.Name]
		if !ok {
			k.t.Fatalf("%s mounts volume %s, which is not there", pod.Containers[0].Name, m.Name)
		}
		mounts[m.MountPath] = dir
	}
	return mounts
}

func (k *kubelet) project(dir, name string, data map[string]string, items []corev1.KeyToPath) {
	k.t.Helper()
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			k.t.Fatalf("there is no key %s in %s", item.Key, name)
		}
		k.write(filepath.Join(dir, item.Path), value)
	}
}

func (k *kubelet) write(path, content string) {
	k.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o400); err != nil {
		k.t.Fatal(err)
	}
}

// run runs a job's container to its end and returns what it printed.
func (k *kubelet) run(pod corev1.PodSpec) (stdout string) {
	k.t.Helper()
	cmd, _ := k.command(pod)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		k.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, log.String())
	}
	return out.String()
}

// start starts a container and waits until its own readiness probe passes.
func (k *kubelet) start(pod corev1.PodSpec) *container {
	k.t.Helper()
	cmd, ports := k.command(pod)
	log, err := os.Create(filepath.Join(k.t.TempDir(), "log"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		k.t.Fatal(err)
	}
	c := &container{process: process, pod: pod, ports: ports, log: log.Name()}
	k.t.Cleanup(func() {
		_ = process.Signal(syscall.SIGKILL)
		<-process.Done()
		if k.t.Failed() {
			text, _ := os.ReadFile(c.log)
			k.t.Logf("%s\n%s", strings.Join(cmd.Args, " "), text)
		}
	})
	for _, probe := range []*corev1.Probe{pod.Containers[0].LivenessProbe, pod.Containers[0].ReadinessProbe} {
		get := probe.HTTPGet
		testkit.Await(k.t, testkit.Deadline, func() error {
			select {
			case <-process.Done():
				k.t.Fatalf("%s ended: %v", cmd.Path, process.Err())
			default:
			}
			return answers(k.t.Context(), "http://"+c.ports[get.Port.StrVal]+get.Path, http.StatusOK)
		})
	}
	return c
}

// stop ends a container as the cluster does and expects that it is done within its grace period, and well.
func (k *kubelet) stop(c *container) {
	k.t.Helper()
	grace := time.Duration(*c.pod.TerminationGracePeriodSeconds) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := c.process.Stop(ctx, syscall.SIGTERM); err != nil {
		k.t.Errorf("%s had to be killed after %s: %v", c.pod.Containers[0].Name, grace, err)
	} else if err := c.process.Err(); err != nil {
		k.t.Errorf("%s ended with %v", c.pod.Containers[0].Name, err)
	}
}

func answers(ctx context.Context, url string, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err == nil && response.StatusCode != want {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	if err != nil {
		return fmt.Errorf("%s: %s, want %d: %w", url, response.Status, want, err)
	}
	return nil
}
