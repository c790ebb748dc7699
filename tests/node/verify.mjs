// Verify a Keyturn certificate from the publisher's exported trust bundles alone, with npm's jose and nothing of ours.
//
//   node verify.mjs CERTIFICATE.ktcert BUNDLES.kttrust [EXPECTED-THUMBPRINT]
//
// 1. Bundle 1 is the pinned one: the thumbprint is the base64url SHA-256 of its payload.
// 2. Every bundle: enough of its own roots signed it, and enough of the roots before; numbers have no gap.
// 3. The certificate names one of the newest bundle's issuing keys, which signed it, in its role and within its time.
// 4. The certificate is for a product of this publisher.
//
// Prints one JSON object; exits 1 with the reason on stderr if anything does not hold.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { calculateJwkThumbprint, compactVerify, decodeProtectedHeader, importJWK, jwtVerify } from 'jose'

const ALGORITHMS = ['EdDSA', 'Ed25519'] // RFC 8037's name and RFC 9864's, of one algorithm.

function must(condition, reason) {
  if (!condition) throw new Error(reason)
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('base64url')
const payloadOf = (token) => Buffer.from(token.split('.')[1], 'base64url')

async function byThumbprint(jwks) {
  const found = new Map()
  for (const jwk of jwks) found.set(await calculateJwkThumbprint(jwk), jwk)
  return found
}

// How many different keys of `roots` signed; a signature of such a key that does not hold is an error, not a zero.
async function signatures(tokens, roots) {
  const signed = new Set()
  for (const token of tokens) {
    const { kid, typ } = decodeProtectedHeader(token)
    must(typ === 'keyturn-bundle+jwt', `a trust bundle has the type ${typ}`)
    if (!roots.has(kid)) continue
    await compactVerify(token, await importJWK(roots.get(kid), 'EdDSA'), { algorithms: ALGORITHMS })
    signed.add(kid)
  }
  return signed.size
}

async function verifyBundles(texts, thumbprint) {
  must(texts.length > 0, 'there is no trust bundle')
  must(sha256(payloadOf(texts[0])) === thumbprint, 'bundle 1 is not the one the thumbprint names')
  let before = null
  for (const [index, text] of texts.entries()) {
    const tokens = text.split('~')
    const payload = payloadOf(tokens[0])
    must(tokens.every((token) => payloadOf(token).equals(payload)), 'signatures over different contents')
    if (before) must((await signatures(tokens, before.roots)) >= before.threshold, 'the roots before did not sign')
    const claims = JSON.parse(payload)
    const roots = await byThumbprint(claims.roots.keys)
    must((await signatures(tokens, roots)) >= claims.roots.threshold, `bundle ${index + 1} lacks signatures`)
    must(claims.number === index + 1 && claims.previous === (before ? before.digest : null), 'the numbers have a gap')
    before = { roots, threshold: claims.roots.threshold, digest: sha256(payload), claims }
  }
  return before.claims
}

async function main([certificateFile, trustFile, expected]) {
  const token = readFileSync(certificateFile, 'utf8').trim()
  const { thumbprint, bundles } = JSON.parse(readFileSync(trustFile, 'utf8'))
  must(expected === undefined || thumbprint === expected, 'the trust file is another publisher\'s')
  // 1. and 2.
  const bundle = await verifyBundles(bundles, thumbprint)
  // 3.
  const { kid } = decodeProtectedHeader(token)
  const keys = await byThumbprint(bundle.keys.map((key) => key.jwk))
  must(keys.has(kid), 'the certificate is signed by a key that is not in the trust bundle')
  const terms = bundle.keys[[...keys.keys()].indexOf(kid)]
  const { payload } = await jwtVerify(token, await importJWK(keys.get(kid), 'EdDSA'), {
    algorithms: ALGORITHMS,
    typ: 'keyturn-certificate+jwt',
    requiredClaims: ['iat', 'sub', 'product', 'cnf', 'commitment'],
  })
  must(terms.role === (payload.test ? 'test' : 'issue'), `the key signs as ${terms.role}`)
  must(terms.nbf <= payload.iat && payload.iat <= terms.exp, 'issued outside the key\'s time')
  // 4.
  must(payload.product.split('/')[0] === thumbprint, 'the certificate is for another publisher\'s product')
  console.log(JSON.stringify({ kid, bundle: bundle.number, claims: payload }))
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`not verified: ${error.message}`)
  process.exitCode = 1
})
