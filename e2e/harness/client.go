package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Answer is what the REST API answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a Answer) JSON(into any) error { return json.Unmarshal(a.Body, into) }

// REST calls the admin API of the first replica that runs, as the bootstrap token.
func (c *Cluster) REST(method, path, body string, headers ...string) Answer {
	c.T.Helper()
	return c.RESTAs(c.Token, method, path, body, headers...)
}

// RESTAs is REST with another token; an empty one sends none.
func (c *Cluster) RESTAs(token, method, path, body string, headers ...string) Answer {
	c.T.Helper()
	req, err := http.NewRequestWithContext(c.T.Context(), method, "https://"+c.running().Admin+path, strings.NewReader(body))
	if err != nil {
		c.T.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/yaml")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.T.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.T.Fatal(err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}
}

// TryREST is a call of a replica, without a body, that may get no answer.
func (c *Cluster) TryREST(r *Replica, method, path string) (Answer, error) {
	req, err := http.NewRequestWithContext(c.T.Context(), method, "https://"+r.Admin+path, nil)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := c.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}, err
}

func (c *Cluster) running() *Replica {
	if r := c.Replicas[c.preferred]; r.Running() {
		return r
	}
	for _, r := range c.Replicas {
		if r.Running() {
			return r
		}
	}
	c.T.Fatal("no replica runs")
	return nil
}

// Apply applies a document to the group it names and returns the revision.
func (c *Cluster) Apply(document string) int64 {
	c.T.Helper()
	return c.apply(document, "")
}

// Prune is Apply that also removes what the document does not have.
func (c *Cluster) Prune(document string) int64 {
	c.T.Helper()
	return c.apply(document, "?prune=true")
}

func (c *Cluster) apply(document, query string) int64 {
	c.T.Helper()
	group := "default"
	if rest, ok := strings.CutPrefix(strings.TrimSpace(document), "group: "); ok {
		group, _, _ = strings.Cut(rest, "\n")
	}
	a := c.REST(http.MethodPost, "/v1/groups/"+strings.TrimSpace(group)+":apply"+query, document)
	if a.Status != http.StatusOK {
		c.T.Fatalf("apply: %d %s", a.Status, a.Body)
	}
	revision, err := revisionOf(a.Body)
	if err != nil {
		c.T.Fatalf("apply answered %s: %v", a.Body, err)
	}
	return revision
}

// Create calls a create RPC and returns the secret it shows once.
func (c *Cluster) Create(path, body string) string {
	c.T.Helper()
	a := c.REST(http.MethodPost, path, body)
	if a.Status/100 != 2 {
		c.T.Fatalf("POST %s: %d %s", path, a.Status, a.Body)
	}
	var made struct {
		Secret string `json:"secret"`
	}
	if err := a.JSON(&made); err != nil {
		c.T.Fatalf("POST %s answered %s: %v", path, a.Body, err)
	}
	return made.Secret
}

// JoinToken makes a join token.
func (c *Cluster) JoinToken(group string, uses int) string {
	c.T.Helper()
	return c.Create("/v1/groups/"+group+"/join-tokens", fmt.Sprintf("{uses: %d}", uses))
}

// CreateGroup makes a gateway group.
func (c *Cluster) CreateGroup(name string) {
	c.T.Helper()
	if a := c.REST(http.MethodPost, "/v1/groups", fmt.Sprintf("{name: %s}", name)); a.Status/100 != 2 {
		c.T.Fatalf("create group %s: %d %s", name, a.Status, a.Body)
	}
}

// AdminToken makes a token of the admin API with a role in a group; `*` means all.
func (c *Cluster) AdminToken(name, group, role string) string {
	c.T.Helper()
	return c.Create("/v1/admin-tokens", fmt.Sprintf("{name: %q, grants: [{group: %q, role: %q}]}", name, group, role))
}

// AdminGetWithCertificate calls the admin API with a client certificate and nothing else.
func (c *Cluster) AdminGetWithCertificate(ctx context.Context, cert tls.Certificate, path string) (status int, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: c.roots, MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.running().Admin+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// GatewayInfo is what the admin API shows of a gateway.
type GatewayInfo struct {
	ID              string `json:"id"`
	State           string `json:"state"`
	AppliedRevision int64  `json:"applied_revision"`
	Attestor        string `json:"attestor"`
	Faults          []struct {
		Kind, Name, Reason string
	} `json:"faults"`
	CertificateExpires time.Time `json:"certificate_expires"`
}

// Gateways lists the gateways of a group.
func (c *Cluster) Gateways(group string) []GatewayInfo {
	c.T.Helper()
	a := c.REST(http.MethodGet, "/v1/groups/"+group+"/gateways", "")
	var list struct {
		Gateways []GatewayInfo `json:"gateways"`
	}
	if err := a.JSON(&list); err != nil || a.Status != http.StatusOK {
		c.T.Fatalf("gateways: %d %s: %v", a.Status, a.Body, err)
	}
	return list.Gateways
}

// AdminConn opens a gRPC connection to the admin API of the first replica that runs.
func (c *Cluster) AdminConn() *grpc.ClientConn {
	c.T.Helper()
	secure := credentials.NewTLS(&tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12})
	conn, err := grpc.NewClient(c.running().Admin, grpc.WithTransportCredentials(secure))
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(func() { conn.Close() })
	return conn
}

// Output is what a run of the CLI gave.
type Output struct {
	Code           int
	Stdout, Stderr string
}

// CLI runs keyward against the first replica that runs.
func (c *Cluster) CLI(stdin string, args ...string) Output {
	c.T.Helper()
	return c.CLIAs(c.Token, stdin, args...)
}

// CLIAs is CLI with another token.
func (c *Cluster) CLIAs(token, stdin string, args ...string) Output {
	c.T.Helper()
	cmd := exec.CommandContext(c.T.Context(), c.Programs.program(c.T, "keyward"), args...)
	cmd.Env = append(append(os.Environ(), environment()...), "KEYWARD_ADDR=https://"+c.running().Admin, "KEYWARD_TOKEN="+token, "KEYWARD_CACERT="+c.CACert)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint // Run answers it unwrapped
		c.T.Fatal(err)
	}
	return Output{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// MustCLI is CLI for commands that have to succeed.
func (c *Cluster) MustCLI(stdin string, args ...string) string {
	c.T.Helper()
	out := c.CLI(stdin, args...)
	if out.Code != 0 {
		c.T.Fatalf("keyward %s: exit %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// TryApply applies a document through one replica. An error says that the change was not acknowledged.
func (c *Cluster) TryApply(ctx context.Context, r *Replica, group, document string) (revision int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+r.Admin+"/v1/groups/"+group+":apply", strings.NewReader(document))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return revisionOf(body)
}

func revisionOf(body []byte) (int64, error) {
	var answer struct {
		Revision json.Number `json:"revision"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	return answer.Revision.Int64()
}
