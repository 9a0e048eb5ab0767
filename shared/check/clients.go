package check

const namesNobody = "names nobody, so nobody could come: say who in allow or ca, or leave it out"

// wants is what is said of client certificates.
type wants interface {
	GetAllow() []string
	GetCa() []string
}

func clientCertificates(vs *violations, m wants, inherit bool) {
	if len(m.GetAllow())+len(m.GetCa()) == 0 && !inherit {
		vs.add("client_certificates", namesNobody)
	}
}
