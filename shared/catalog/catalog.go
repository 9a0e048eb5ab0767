// Package catalog knows every kind of resource, policy type and credential type from their protobuf descriptors, and
// reads and writes the documents in which people write them. There is one decoder for files and API bodies, YAML and
// JSON: strict, and telling every violation at once with its place. Nothing here is a list that somebody has to extend:
// a new message with the right option is a new kind or type. It does no I/O, keeps no state beyond what descriptors say,
// and never puts the value of a secret into an answer or an error. The admin API, the control plane's admission, the
// command line and the gateways' compiler use it.
package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	_ "keyward.dev/proto/gen/keyward/credential/v1" // links the credential types into the registry
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	_ "keyward.dev/proto/gen/keyward/policy/v1" // links the policy types into the registry
)

// Kind is a kind of resource.
type Kind struct {
	// Name is the plural word of paths and the key in files, e.g. "consumer-groups".
	Name string
	// Singular is the word for people, e.g. "consumer group".
	Singular string
	// Parent is the kind that owns this one, empty for none.
	Parent string
	// ParentField is the field that holds the owner's name, empty for none.
	ParentField string
	// Singleton says that there is one per group, without a name.
	Singleton bool
	// Type makes messages of this kind.
	Type protoreflect.MessageType
}

// Policy is a policy type.
type Policy struct {
	Type       string
	Phase      optionsv1.Phase
	Combine    optionsv1.Combine
	BindableOn []optionsv1.Site
	Body       optionsv1.Body
	// Config makes messages of its configuration.
	Config protoreflect.MessageType
}

// Credential is a credential type.
type Credential struct {
	Type string
	// Config makes messages of its configuration.
	Config protoreflect.MessageType
}

// Catalog holds what the linked descriptors declare. It is immutable and safe for concurrent use.
type Catalog struct {
	kinds       map[string]*Kind
	kindOf      map[protoreflect.FullName]*Kind
	policies    map[string]*Policy
	policyOf    map[protoreflect.FullName]*Policy
	credentials map[string]*Credential
	sorted      []*Kind            // owners before what they own
	owned       map[string][]*Kind // what may be written inside a resource of a kind
	shapes      map[protoreflect.FullName]*shape
}

// New reads the linked descriptors. It fails if they contradict themselves: two types of one name, a default that does
// not parse, a field type that documents cannot hold.
func New() (*Catalog, error) {
	c := &Catalog{
		kinds:       map[string]*Kind{},
		kindOf:      map[protoreflect.FullName]*Kind{},
		policies:    map[string]*Policy{},
		policyOf:    map[protoreflect.FullName]*Policy{},
		credentials: map[string]*Credential{},
		shapes:      map[protoreflect.FullName]*shape{},
	}
	var err error
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		err = c.register(mt)
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	if err := c.link(); err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	return c, nil
}

// register takes a message up if an option makes it a kind or type.
func (c *Catalog) register(mt protoreflect.MessageType) error {
	md := mt.Descriptor()
	opts := md.Options()
	var name string
	var known bool
	switch {
	case proto.HasExtension(opts, optionsv1.E_Resource):
		o, _ := proto.GetExtension(opts, optionsv1.E_Resource).(*optionsv1.ResourceOptions)
		name = o.GetKind()
		_, known = c.kinds[name]
		k := &Kind{Name: name, Singular: o.GetSingular(), Parent: o.GetParent(), Singleton: o.GetSingleton(), Type: mt}
		c.kinds[name], c.kindOf[md.FullName()] = k, k
	case proto.HasExtension(opts, optionsv1.E_Policy):
		o, _ := proto.GetExtension(opts, optionsv1.E_Policy).(*optionsv1.PolicyOptions)
		name = o.GetType()
		_, known = c.policies[name]
		p := &Policy{Type: name, Phase: o.GetPhase(), Combine: o.GetCombine(), BindableOn: o.GetBindableOn(), Body: o.GetBody(), Config: mt}
		c.policies[name], c.policyOf[md.FullName()] = p, p
	case proto.HasExtension(opts, optionsv1.E_Credential):
		o, _ := proto.GetExtension(opts, optionsv1.E_Credential).(*optionsv1.CredentialOptions)
		name = o.GetType()
		_, known = c.credentials[name]
		c.credentials[name] = &Credential{Type: name, Config: mt}
	default:
		return nil
	}
	if known {
		return fmt.Errorf("%s: %q is declared twice", md.FullName(), name)
	}
	return c.shapeOf(md)
}

// link relates kinds to their owners: the field that names the owner, the order, and what stands inside what.
func (c *Catalog) link() error {
	for _, k := range c.kinds {
		if k.Parent == "" {
			continue
		}
		if c.kinds[k.Parent] == nil {
			return fmt.Errorf("kind %s: no kind %q", k.Name, k.Parent)
		}
		for _, f := range c.shapes[k.Type.Descriptor().FullName()].fields {
			if f.reference == k.Parent && !f.fd.IsList() {
				k.ParentField = f.name
				break
			}
		}
		if k.ParentField == "" {
			return fmt.Errorf("kind %s: no field refers to its owner's kind %q", k.Name, k.Parent)
		}
	}
	c.sorted = slices.SortedFunc(maps.Values(c.kinds), func(a, b *Kind) int {
		return cmp.Or(cmp.Compare(c.depth(a), c.depth(b)), cmp.Compare(a.Name, b.Name))
	})
	c.owned = map[string][]*Kind{}
	for _, k := range c.sorted {
		if k.Parent != "" {
			c.owned[k.Parent] = append(c.owned[k.Parent], k)
		}
	}
	return nil
}

// Kind returns a kind by its plural word.
func (c *Catalog) Kind(name string) (*Kind, bool) {
	k, ok := c.kinds[name]
	return k, ok
}

// KindOf returns the kind of a message.
func (c *Catalog) KindOf(m proto.Message) (*Kind, bool) {
	k, ok := c.kindOf[m.ProtoReflect().Descriptor().FullName()]
	return k, ok
}

// Kinds lists all kinds, owners before what they own, else by name.
func (c *Catalog) Kinds() []*Kind { return slices.Clone(c.sorted) }

func (c *Catalog) depth(k *Kind) int {
	if k.Parent == "" {
		return 0
	}
	return 1 + c.depth(c.kinds[k.Parent])
}

// Policy returns a policy type by its word.
func (c *Catalog) Policy(typ string) (*Policy, bool) {
	p, ok := c.policies[typ]
	return p, ok
}

// PolicyOf returns the policy type of a configuration message.
func (c *Catalog) PolicyOf(m proto.Message) (*Policy, bool) {
	p, ok := c.policyOf[m.ProtoReflect().Descriptor().FullName()]
	return p, ok
}

// Policies lists all policy types by phase and word.
func (c *Catalog) Policies() []*Policy {
	return slices.SortedFunc(maps.Values(c.policies), func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Type, b.Type))
	})
}

// Credential returns a credential type by its word.
func (c *Catalog) Credential(typ string) (*Credential, bool) {
	t, ok := c.credentials[typ]
	return t, ok
}

// Credentials lists all credential types by word.
func (c *Catalog) Credentials() []*Credential {
	return slices.SortedFunc(maps.Values(c.credentials), func(a, b *Credential) int { return cmp.Compare(a.Type, b.Type) })
}

// configType returns the message type that an Any field of the message holds for a `type` word, nil for an unknown one.
func (c *Catalog) configType(holder protoreflect.FullName, word string) protoreflect.MessageType {
	if holder == bindingName {
		if p, ok := c.policies[word]; ok {
			return p.Config
		}
		return nil
	}
	if t, ok := c.credentials[word]; ok {
		return t.Config
	}
	return nil
}

// typeReason says why a word is not a type that the message can hold, empty if it is one.
func (c *Catalog) typeReason(holder protoreflect.FullName, word string) string {
	if c.configType(holder, word) != nil {
		return ""
	}
	what, known := "credential", slices.Sorted(maps.Keys(c.credentials))
	if holder == bindingName {
		what, known = "policy", slices.Sorted(maps.Keys(c.policies))
	}
	return fmt.Sprintf("unknown %s type %s%s (known: %s)", what, quote(word), suggest(word, known), strings.Join(known, ", "))
}

// StoredName returns the name under which a resource of the kind is stored and referred to: "consumer/name" for a kind
// with an owner, the kind itself for a singleton, else the name.
func (k *Kind) StoredName(parent, name string) string {
	switch {
	case k.Singleton:
		return k.Name
	case k.Parent != "":
		return parent + "/" + name
	default:
		return name
	}
}

// NameOf returns the stored name of a message of the kind.
func (k *Kind) NameOf(m proto.Message) string {
	return k.StoredName(k.ParentOf(m), stringField(m, "name"))
}

// ParentOf returns the name of the owner of a message of the kind, empty for a kind without one.
func (k *Kind) ParentOf(m proto.Message) string {
	if k.ParentField == "" {
		return ""
	}
	return stringField(m, protoreflect.Name(k.ParentField))
}

func stringField(m proto.Message, name protoreflect.Name) string {
	fd := m.ProtoReflect().Descriptor().Fields().ByName(name)
	if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return ""
	}
	return m.ProtoReflect().Get(fd).String()
}

func setStringField(m proto.Message, name protoreflect.Name, value string) {
	if fd := m.ProtoReflect().Descriptor().Fields().ByName(name); fd != nil {
		m.ProtoReflect().Set(fd, protoreflect.ValueOfString(value))
	}
}

const (
	bindingName   protoreflect.FullName = "keyward.config.v1.Binding"
	secretName    protoreflect.FullName = "keyward.config.v1.Secret"
	anyName       protoreflect.FullName = "google.protobuf.Any"
	durationName  protoreflect.FullName = "google.protobuf.Duration"
	timestampName protoreflect.FullName = "google.protobuf.Timestamp"
)

var _ proto.Message = (*configv1.Binding)(nil)
