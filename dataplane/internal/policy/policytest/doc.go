// Package policytest runs policies through the real chain on readable cases: configuration as users write it, requests
// as they come over the wire, what the upstream saw and what was answered. Only tests call it.
//
// A case is a file of sections (the txtar form):
//
//	-- config.yaml --
//	services: …, routes: … (the first is used), consumers: …
//	-- stored --
//	store NAME (optional section: credential stores that are known, and what is in them)
//	pair STORE CONSUMER ACCESS-TOKEN SECRET-TOKEN [expires=1h]
//	-- request client=192.0.2.1 at=10s tls cert=san:DNS:a.test;subject:CN=a issuer=partners --
//	GET /path HTTP/1.1
//	…
//	-- upstream --
//	HTTP/1.1 200 (optional; this is the default)
//	-- want --
//	verdict, principal, ">" what the upstream saw, "<" the response
//
// request, upstream and want may repeat; state lasts. `$KEY_name` stands for a generated key, `$BASIC{user:password}` for that in
// Base64; `$LDAP` and `$LDAPS` for the addresses of a directory of package ldaptest, and `$LDAP_CA` for its authority; `$REDIS` and
// `$REDIS_PASSWORD` for those of a Redis of package redistest.
// `$JWK_es256_a` is the JWK of a key for that algorithm, `$SECRET_hs256_a` a secret in Base64, and `$TOKEN(es256_a {claims})` or
// `$TOKEN(es256_a {header} {claims})` a token signed with it, whose exp, nbf and iat count from the beginning of the case, in
// seconds. `$JKT_es256_a` is the thumbprint of such a key, `$PROOF(es256_a {claims})` a proof that the caller has it, for the token of
// the request, and `$NONCE` in it the nonce that was answered last. `$KEYHOST/es256_a+es256_b` is where such keys are published, `$KEYHOST/issuer/es256_a` an issuer that says so, and
// `$KEYHOSTS` the same over TLS, with the authority `$KEYHOST_CA`; the group has to allow 127.0.0.0/8. `$CHAIN_es256_a` and `$PRIVATE_es256_a` are the certificate of such a key and its private key, `$KID_es256_a` the
// certificate's id; tokens that the gateway signs are written as `$SIGNED(es256_a ES256 {claims})`. cert= is what a client
// certificate says of its owner, issuer= who has issued it, with a ? if nobody can tell whether it is revoked. `go test -update` rewrites
// the want sections.
package policytest
