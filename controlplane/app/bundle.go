package app

import (
	"context"
	"flag"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/fallback/bucket"
	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/shared/sealedset"
	"keyward.dev/shared/settings"
)

// Bundles says where fallback bundles are written.
type Bundles struct {
	// Dir and S3 are empty if none are.
	Dir      string
	S3       BundleS3
	Interval time.Duration
	TTL      time.Duration
}

// BundleS3 is a bucket for bundles.
type BundleS3 struct {
	URL, Region          string
	AccessKey, SecretKey settings.Secret
}

func (b *Bundles) wanted() bool { return b.Dir != "" || b.S3.URL != "" }

// Flags declares the settings.
func (b *Bundles) Flags(fs *flag.FlagSet) {
	fs.StringVar(&b.Dir, "bundle-dir", "", "`directory` for the fallback bundles of all groups, which gateways without a control plane can start from; the same for all replicas; empty: none are written")
	fs.StringVar(&b.S3.URL, "bundle-s3", "", "`URL` of a bucket of an S3-compatible store for them instead: https://host/bucket/prefix")
	fs.StringVar(&b.S3.Region, "bundle-s3-region", "us-east-1", "`region` of that bucket")
	settings.VaultSecretVar(fs, &b.S3.AccessKey, "bundle-s3-access-key", "`access key` for that bucket")
	settings.VaultSecretVar(fs, &b.S3.SecretKey, "bundle-s3-secret-key", "`secret key` for that bucket")
	fs.DurationVar(&b.Interval, "bundle-interval", 5*time.Minute, "how often it is looked whether a bundle has to be written")
	fs.DurationVar(&b.TTL, "bundle-ttl", 24*time.Hour, "how long gateways may start from a bundle")
}

func (b *Bundles) check(faults *settings.Faults) {
	if b.Dir != "" && b.S3.URL != "" {
		faults.Addf("bundle-s3", "and --bundle-dir, which of the two is meant?")
	}
	if b.S3.URL != "" {
		_, err := bucket.ParseLocation(b.S3.URL)
		faults.Add("bundle-s3", err)
		if !b.S3.AccessKey.IsSet() || !b.S3.SecretKey.IsSet() || b.S3.Region == "" {
			faults.Addf("bundle-s3", "needs a region, an access key and a secret key")
		}
		checkSecret(faults, "bundle-s3-access-key", b.S3.AccessKey)
		checkSecret(faults, "bundle-s3-secret-key", b.S3.SecretKey)
	}
	if b.Interval < time.Second || b.Interval > 24*time.Hour {
		faults.Addf("bundle-interval", "must be between 1s and 24h")
	}
	if b.TTL < 2*b.Interval {
		faults.Addf("bundle-ttl", "must be at least twice --bundle-interval, or bundles expire before there is another")
	}
}

// settle reads the keys of the bucket.
func (b *Bundles) settle(ctx context.Context, from *places) (err error) {
	if b.S3.AccessKey, err = from.settled(ctx, "bundle-s3-access-key", b.S3.AccessKey); err != nil {
		return err
	}
	b.S3.SecretKey, err = from.settled(ctx, "bundle-s3-secret-key", b.S3.SecretKey)
	return err
}

// place is where bundles go.
func (b *Bundles) place() (fallback.Place, error) {
	if b.S3.URL == "" {
		return fallback.Directory(b.Dir), nil
	}
	at, err := bucket.ParseLocation(b.S3.URL)
	if err != nil {
		return nil, fmt.Errorf("--bundle-s3: %w", err)
	}
	return bucket.New(bucket.Config{
		Location: at, Region: b.S3.Region, AccessKey: b.S3.AccessKey.Reveal(), SecretKey: b.S3.SecretKey.Reveal(),
	}), nil
}

// bundleJob writes the fallback bundles.
func (p *plane) bundleJob() (jobs.Job, error) {
	b := p.settings.Bundles
	place, err := b.place()
	if err != nil {
		return jobs.Job{}, err
	}
	w := fallback.NewWriter(fallback.Config{
		Keys: p.bundleKeys, Sets: bundleSets{source{p.core.groups, p.core.history, p.rollouts}, p.core},
		Place: place, TTL: b.TTL, Now: time.Now, Log: p.log,
	})
	return jobs.Job{Name: "fallback-bundle", Every: b.Interval, Timeout: 10 * time.Minute, Run: w.Run}, nil
}

// bundleSets gives fallback bundles what all gateways of a group may run: where changes are staged, that is what the last
// stage has.
type bundleSets struct {
	source
	core *core
}

// Stamps implements fallback.Sets.
func (s bundleSets) Stamps(ctx context.Context) ([]fallback.Stamp, error) {
	heads, err := s.core.store.Heads(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]fallback.Stamp, 0, len(heads))
	for _, h := range heads {
		revision, err := s.cleared(ctx, h.Group, h.Epoch, h.Revision)
		if err != nil {
			return nil, err
		}
		out = append(out, fallback.Stamp{Group: h.Group, Epoch: h.Epoch, Revision: revision})
	}
	return out, nil
}

// cleared answers the newest revision that every gateway of the group may run.
func (s bundleSets) cleared(ctx context.Context, group string, epoch uint64, newest int64) (int64, error) {
	state, err := s.rollouts.State(ctx, group)
	if err != nil || state == nil || state.Epoch != epoch {
		return newest, err
	}
	return min(newest, state.Targets[len(state.Targets)-1]), nil
}

// Set implements fallback.Sets.
func (s bundleSets) Set(ctx context.Context, group string) (fallback.Set, error) {
	view, err := s.groups.Fresh(ctx, group)
	if err != nil {
		return fallback.Set{}, err
	}
	revision, err := s.cleared(ctx, group, view.Epoch, view.Revision)
	if err != nil {
		return fallback.Set{}, err
	}
	snap := s.whole(view)
	if revision != view.Revision {
		if snap, err = s.At(ctx, group, revision); err != nil {
			return fallback.Set{}, err
		}
	}
	return fallback.Set{Epoch: snap.Epoch, Revision: snap.Revision, Digest: snap.Digest, Records: recordsOf(snap)}, nil
}

func recordsOf(snap fanout.Snapshot) func(yield func(sealedset.Record) bool) {
	return func(yield func(sealedset.Record) bool) {
		for r := range snap.Records {
			out := sealedset.Record{Kind: r.Kind, UID: r.UID, Bytes: r.Bytes}
			if r.Unreadable {
				out.Name, out.Bytes = r.Name, nil
			}
			if !yield(out) {
				return
			}
		}
	}
}
