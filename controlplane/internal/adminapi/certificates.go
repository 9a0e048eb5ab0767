package adminapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
)

// The stages of a certificate that can be written.
const (
	stageCurrent = "current"
	stageNext    = "next"
)

// AddCertificate stores a certificate from a file.
func (s *resources) AddCertificate(ctx context.Context, req *adminv1.AddCertificateRequest) (*adminv1.CertificateResponse, error) {
	given, err := fileOf(req)
	if err != nil {
		return nil, failure(err)
	}
	id := certs.VersionID(given)
	out, err := again(func() (*adminv1.CertificateResponse, error) {
		view, err := s.sets.Fresh(ctx, req.GetGroup())
		if err != nil {
			return nil, err
		}
		c, stored, err := target(view, req, id)
		if err != nil {
			return nil, err
		}
		if req.GetName() == "" && stored != nil && certs.VersionID(c.GetCurrent()) != id {
			return version(c, id, &adminv1.WriteResponse{Revision: view.Revision}) // nobody said that it shall be another version
		}
		slot := &c.Current
		if req.GetStage() == stageNext {
			slot = &c.Next
		} else if certs.VersionID(c.GetNext()) == id {
			c.Next = nil // what was staged is written in its place: promoted
		}
		*slot = proto.CloneOf(given)
		return s.putCertificate(ctx, "certificates.add", req.GetGroup(), c, stored, id)
	})
	return out, failure(err)
}

// fileOf reads the file of a request into a version in stored form.
func fileOf(req *adminv1.AddCertificateRequest) (*configv1.CertificateVersion, error) {
	var vs []problem.Violation
	if stage := req.GetStage(); stage != "" && stage != stageCurrent && stage != stageNext {
		vs = append(vs, problem.Violation{Path: "stage", Reason: "must be current or next"})
	}
	if req.GetName() != "" && !catalog.ValidName(req.GetName()) {
		vs = append(vs, problem.Violation{Path: "name", Reason: "is not a name"})
	}
	if req.GetStage() == stageNext && req.GetName() == "" {
		vs = append(vs, problem.Violation{Path: "name", Reason: "must say of which certificate it is the next version"})
	}
	pem, pkcs12 := req.GetPem().GetPlaintext(), req.GetPkcs12().GetPlaintext()
	if (pem == "") == (pkcs12 == "") {
		return nil, problem.Violated(append(vs, problem.Violation{Path: "pem", Reason: "give either pem or pkcs12"}))
	}
	work, version := certinput.NewWork(admission.MaxRounds), &configv1.CertificateVersion{Chain: pem}
	if secret := req.GetPassphrase().GetPlaintext(); secret != "" {
		version.Passphrase = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: secret}}
	}
	path := "pem"
	if pkcs12 != "" {
		path = "pkcs12"
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(pkcs12), ""))
		if err != nil {
			return nil, problem.Violated(append(vs, problem.Violation{Path: path, Reason: "is not Base64"}))
		}
		text, reason := certinput.PKCS12(der, req.GetPassphrase().GetPlaintext(), work)
		if reason != "" {
			return nil, problem.Violated(append(vs, problem.Violation{Path: path, Reason: reason}))
		}
		version = &configv1.CertificateVersion{Chain: text}
	}
	for _, v := range certinput.Version(version, work) {
		if v.Path != "passphrase" { // all else is in the one file
			v.Path = path
		}
		vs = append(vs, v)
	}
	return version, problem.Violated(vs)
}

// target finds the certificate that a file is written to, or makes a new one.
func target(view *snapshot.View, req *adminv1.AddCertificateRequest, id string) (*configv1.Certificate, *snapshot.Resource, error) {
	name := req.GetName()
	if holder, ok := view.Claimant(claims.Certificate(id)); ok {
		switch name {
		case "":
			name = holder.Name
		case holder.Name:
		default:
			return nil, nil, problem.Errorf(problem.Conflict, "the group has the certificate %s already, as %s", id, catalog.Ref(certs.Kind, holder.Name))
		}
	}
	if name == "" {
		name = id
	}
	stored, ok := view.Get(certs.Kind, name)
	if !ok && req.GetStage() == stageNext {
		return nil, nil, problem.Errorf(problem.NotFound, "there is no certificate %s that this could be the next version of", name)
	}
	c := &configv1.Certificate{Name: name}
	if ok {
		var err error
		if c, err = kept(stored); err != nil {
			return nil, nil, err
		}
	}
	if len(req.GetSnis()) > 0 {
		c.Snis = req.GetSnis()
	}
	if len(req.GetLabels()) > 0 {
		c.Labels = req.GetLabels()
	}
	return c, stored, nil
}

// kept is a stored certificate as it can be written back: its keys are `set`, which keeps them.
func kept(r *snapshot.Resource) (*configv1.Certificate, error) {
	m, err := visible(r, nil)
	if err != nil {
		return nil, err
	}
	c, ok := m.(*configv1.Certificate)
	if !ok {
		return nil, problem.Errorf(problem.Internal, "the stored %s is none", catalog.Ref(r.Kind, r.Name))
	}
	return c, nil
}

// PromoteCertificate makes the next version the current one.
func (s *resources) PromoteCertificate(ctx context.Context, req *adminv1.PromoteCertificateRequest) (*adminv1.CertificateResponse, error) {
	k, err := s.kind(certs.Kind)
	if err != nil {
		return nil, failure(err)
	}
	out, err := again(func() (*adminv1.CertificateResponse, error) {
		view, err := s.sets.Fresh(ctx, req.GetGroup())
		if err != nil {
			return nil, err
		}
		stored, err := find(view, k, req.GetName())
		if err != nil {
			return nil, err
		}
		c, err := kept(stored)
		if err != nil {
			return nil, err
		}
		if c.GetNext() == nil {
			return nil, problem.Errorf(problem.Conflict, "certificate %s has no next version that could be promoted", c.GetName())
		}
		c.Current, c.Next = c.GetNext(), nil
		return s.putCertificate(ctx, "certificates.promote", req.GetGroup(), c, stored, certs.VersionID(c.GetCurrent()))
	})
	return out, failure(err)
}

// again tries a change that depends on what is stored as often as others change it meanwhile.
func again(try func() (*adminv1.CertificateResponse, error)) (*adminv1.CertificateResponse, error) {
	for attempt := 1; ; attempt++ {
		out, err := try()
		if err == nil || problem.Of(err).Code != problem.PreconditionFailed || attempt == patchAttempts {
			return out, err
		}
	}
}

// putCertificate writes a certificate on the condition that it still is what it was, and answers one of its versions.
func (s *resources) putCertificate(
	ctx context.Context, action, group string, c *configv1.Certificate, stored *snapshot.Resource, id string,
) (*adminv1.CertificateResponse, error) {
	change := admission.Change{Kind: certs.Kind, Name: c.GetName(), Message: c, IfNoneMatch: "*"}
	if stored != nil {
		change.IfNoneMatch, change.IfMatch = "", catalog.ETag(stored.Revision)
	}
	res, err := s.writeOne(ctx, configsvc.Request{Action: action, Group: group}, change)
	if err != nil {
		return nil, err
	}
	var now configv1.Certificate
	if err := res.GetResource().UnmarshalTo(&now); err != nil {
		return nil, fmt.Errorf("read what was written: %w", err)
	}
	return version(&now, id, res)
}

// version answers a version of a certificate, and what became of the write.
func version(c *configv1.Certificate, id string, res *adminv1.WriteResponse) (*adminv1.CertificateResponse, error) {
	for _, slot := range certs.Slots(c) {
		if certs.VersionID(slot.Version) == id {
			return &adminv1.CertificateResponse{
				Id: id, Name: c.GetName(), Info: slot.Version.GetInfo(), Stage: slot.Name, Revision: res.GetRevision(),
				Created: res.GetCreated(), Changed: res.GetChanged(), Warnings: res.GetWarnings(),
			}, nil
		}
	}
	return nil, problem.Errorf(problem.Internal, "the certificate is not among what is stored")
}

// deletionByID answers the change that removes a certificate by the id of a version: with the current one all of it goes, else
// only the version.
func (s *resources) deletionByID(ctx context.Context, req *adminv1.DeleteRequest, k *catalog.Kind, id string) (admission.Change, error) {
	view, err := s.sets.Fresh(ctx, req.GetGroup())
	if err != nil {
		return admission.Change{}, err
	}
	r, err := find(view, k, id)
	if err != nil {
		return admission.Change{}, err
	}
	whole := admission.Change{Op: admission.OpDelete, Kind: r.Kind, Name: r.Name, IfMatch: req.GetIfMatch()}
	stored, ok := r.Message.(*configv1.Certificate)
	if !ok || r.Name == id || certs.VersionID(stored.GetCurrent()) == id {
		return whole, nil
	}
	etag := catalog.ETag(r.Revision)
	if m := req.GetIfMatch(); m != "" && m != "*" && m != etag {
		return admission.Change{}, problem.Errorf(problem.PreconditionFailed, "the certificate has the entity tag %q", etag)
	}
	c, err := kept(r)
	if err != nil {
		return admission.Change{}, err
	}
	if certs.VersionID(c.GetNext()) == id {
		c.Next = nil
	} else {
		c.Previous = &configv1.CertificateVersion{} // nothing, instead of what is there
	}
	return admission.Change{Kind: r.Kind, Name: r.Name, Message: c, IfMatch: etag}, nil
}

// expires reports whether a certificate can be presented no longer than to a time, or an authority is valid no longer.
func expires(m proto.Message, before time.Time) bool {
	end, ok := certs.End(m)
	return ok && !end.After(before)
}

// Issuance has certificates issued by ACME authorities; *issuance.Service does.
type Issuance interface {
	Renew(ctx context.Context, actor, group, name string) (revision int64, err error)
}

// RenewCertificate has a certificate issued anew.
func (s *resources) RenewCertificate(ctx context.Context, req *adminv1.RenewCertificateRequest) (*adminv1.RenewCertificateResponse, error) {
	revision, err := s.issuance.Renew(ctx, actor(ctx), req.GetGroup(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.RenewCertificateResponse{Revision: revision}, nil
}
