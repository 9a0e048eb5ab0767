// Mints tokens with jose of npm, so that tests meet those of an implementation that is not ours: one for each public algorithm,
// with a public key that was made for it, and for a proof of possession (RFC 9449) where there is a URL.
//
//   node .tools/jose/mint.mjs "$(.tools/tool jose)" ISSUER NOW [URL] >dataplane/internal/token/testdata/npm-jose.json
//
// NOW is in seconds since 1970; tokens count for a minute from then. The private keys are nowhere but here.
import { createRequire } from 'node:module'
import { createHash, randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'

const [place, issuer, now, url] = process.argv.slice(2)
const jose = await import(pathToFileURL(createRequire(place).resolve('jose')))
const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']

async function mint(alg) {
  const pair = () => jose.generateKeyPair(alg, { extractable: true })
  const { privateKey, publicKey } = await pair()
  const own = await pair()
  const ownKey = await jose.exportJWK(own.publicKey)
  const kid = alg.toLowerCase()
  const claims = { sub: 'ålice😀', scope: 'read write' }
  if (url) claims.cnf = { jkt: await jose.calculateJwkThumbprint(ownKey) }
  const token = await new jose.SignJWT(claims)
    .setProtectedHeader({ alg, kid, typ: 'JWT' })
    .setIssuer(issuer).setAudience(['other', 'api']).setIssuedAt(Number(now)).setExpirationTime(Number(now) + 60)
    .sign(privateKey)
  const out = { alg, key: { ...(await jose.exportJWK(publicKey)), kid, alg, use: 'sig' }, token }
  if (url) {
    const ath = createHash('sha256').update(token).digest('base64url')
    out.proof = await new jose.SignJWT({ jti: randomUUID(), htm: 'GET', htu: url, ath })
      .setProtectedHeader({ alg, typ: 'dpop+jwt', jwk: ownKey })
      .setIssuedAt(Number(now))
      .sign(own.privateKey)
  }
  return out
}

console.log(JSON.stringify(await Promise.all(algorithms.map(mint)), null, 1))
