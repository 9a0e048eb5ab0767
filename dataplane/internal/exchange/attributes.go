package exchange

// Attributes are what few callers have: of a million principals each field costs. Those of a principal are read by its methods.
type Attributes struct {
	// Username and CustomID are the consumer's other names; mostly empty.
	Username, CustomID string
	// Labels are those of the consumer.
	Labels map[string]string
	// Subject is who the caller is in the words of what proved it: the subject of a token, the name in a directory; empty if
	// only the consumer is known.
	Subject string
	// Scopes are what the caller was granted (RFC 6749 section 3.3).
	Scopes []string
	// Claims are those of the caller's token, decoded from JSON; nil without one.
	Claims map[string]any
	// Bound is the key of the certificates, as Client knows it, of which the client has to have one; empty: it needs none.
	Bound string
}

// Own returns the principal's attributes to be changed: a copy of those that it has shared so far.
func (p *Principal) Own() *Attributes {
	own := new(Attributes)
	if p.Attributes != nil {
		*own = *p.Attributes
	}
	p.Attributes = own
	return own
}

// Username is that of the consumer; empty: it has none.
func (p *Principal) Username() string {
	if p.Attributes == nil {
		return ""
	}
	return p.Attributes.Username
}

// CustomID is that of the consumer; empty: it has none.
func (p *Principal) CustomID() string {
	if p.Attributes == nil {
		return ""
	}
	return p.Attributes.CustomID
}

// Labels are those of the consumer.
func (p *Principal) Labels() map[string]string {
	if p.Attributes == nil {
		return nil
	}
	return p.Attributes.Labels
}

// Subject is what Attributes say; empty: only the consumer is known.
func (p *Principal) Subject() string {
	if p.Attributes == nil {
		return ""
	}
	return p.Attributes.Subject
}

// Scopes are what the caller was granted.
func (p *Principal) Scopes() []string {
	if p.Attributes == nil {
		return nil
	}
	return p.Attributes.Scopes
}

// Claims are those of the caller's token; nil without one.
func (p *Principal) Claims() map[string]any {
	if p.Attributes == nil {
		return nil
	}
	return p.Attributes.Claims
}

// Bound is what Attributes say; empty: no certificate is needed.
func (p *Principal) Bound() string {
	if p.Attributes == nil {
		return ""
	}
	return p.Attributes.Bound
}
