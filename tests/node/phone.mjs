// Judge the golden vectors of telephone activation with npm's @noble/curves and nothing of ours: docs/protocol-telephone.md,
// read by somebody else.
//
//   node phone.mjs tests/vectors/phone.json
//
// 1. Messages onto the curve: expansion and field elements by the library, the map written out of RFC 9380, section 6.6.1.
// 2. Public keys of secrets; keys that are none.
// 3. Installation IDs: from their digits to their fields, and the commitment and the proof made again.
// 4. Confirmation IDs: from their digits to a signature of their message that holds, and that the secret makes again; none of
//    them answers another installation ID.
// 5. What is refused as foreign does not verify; what is refused as malformed ends before the curve.
// 6. Validation IDs and verdict codes: every field, and both MACs made again.
// 7. Hosts: from their digits to the document, made again from the installation ID, whose Ed25519 signature holds; the certificate that
//    they show is that document and a key to which the ID commits. What is refused is no such thing.
//
// Prints how many of each were looked at, as one JSON object; exits 1 with the reason on stderr if anything does not hold.

import { createHash, createHmac, createPublicKey, scryptSync, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createHasher } from '@noble/curves/abstract/hash-to-curve.js'
import { bn254 } from '@noble/curves/bn254.js'
import { sha256 } from '@noble/hashes/sha2.js'

const { G1, G2 } = bn254
const { Fp, Fp2, Fp12, Fr } = bn254.fields
const CHANNELS = ['retail', 'mak', 'host', 'client', 'oem']
const DAMM = [
  '0317598642', '7092154863', '4206871359', '1750983426', '6123045978',
  '3674209581', '5869720134', '8945362017', '9438617205', '2581436790',
]

function must(condition, reason) {
  if (!condition) throw new Error(reason)
}

// --- messages onto the curve ---

const g = (x) => Fp.add(Fp.mul(Fp.sqr(x), x), 3n)
const sgn0 = (x) => x & 1n
const root = (x) => { try { return Fp.sqrt(x) } catch { return null } }

// RFC 9380, 6.6.1, as the procedure stands there, with Z = 1.
const Z = 1n
const c1 = g(Z)
const c2 = Fp.neg(Fp.div(Z, 2n))
let c3 = root(Fp.mul(Fp.neg(g(Z)), 3n))
if (sgn0(c3) === 1n) c3 = Fp.neg(c3)
const c4 = Fp.div(Fp.mul(-4n, g(Z)), 3n)

function svdw([u]) {
  let tv1 = Fp.mul(Fp.sqr(u), c1)
  const tv2 = Fp.add(Fp.ONE, tv1)
  tv1 = Fp.sub(Fp.ONE, tv1)
  const product = Fp.mul(tv1, tv2)
  const tv3 = Fp.is0(product) ? 0n : Fp.inv(product)
  const tv4 = Fp.mul(Fp.mul(Fp.mul(u, tv1), tv3), c3)
  const xs = [Fp.sub(c2, tv4), Fp.add(c2, tv4), Fp.add(Z, Fp.mul(c4, Fp.sqr(Fp.mul(Fp.sqr(tv2), tv3))))]
  const x = xs.find((candidate) => root(g(candidate)) !== null)
  const y = root(g(x))
  return { x, y: sgn0(u) === sgn0(y) ? y : Fp.neg(y) }
}

const hasher = createHasher(G1.Point, svdw, { DST: 'none', p: Fp.ORDER, m: 1, k: 128, expand: 'xmd', hash: sha256 })
const onto = (message, dst) => hasher.hashToCurve(message, { DST: dst })

// --- points, keys and signatures ---

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'))
const big = (data) => BigInt('0x' + (Buffer.from(data).toString('hex') || '0'))

function publicKey(hex) {
  const data = bytes(hex)
  must(data.length === 128, 'a key has 128 bytes')
  const [x1, x0, y1, y0] = [0, 32, 64, 96].map((at) => big(data.subarray(at, at + 32)))
  must([x1, x0, y1, y0].every((part) => part < Fp.ORDER), 'a coordinate is not canonical')
  const point = G2.Point.fromAffine({ x: Fp2.fromBigTuple([x0, x1]), y: Fp2.fromBigTuple([y0, y1]) })
  must(!point.equals(G2.Point.ZERO), 'infinity')
  point.assertValidity() // On the curve, and of the group of order R.
  return point
}

function written(point) {
  const { x, y } = point.toAffine()
  return [x.c1, x.c0, y.c1, y.c0].map((part) => part.toString(16).padStart(64, '0')).join('')
}

function signaturePoint(short) {
  const x = short >> 1n
  must(x < Fp.ORDER, 'x is not canonical')
  const y = root(g(x))
  must(y !== null, 'x is not on the curve')
  return G1.Point.fromAffine({ x, y: sgn0(y) === (short & 1n) ? y : Fp.neg(y) })
}

function holds(key, point, message, dst) {
  const pairs = [{ g1: point, g2: G2.Point.BASE }, { g1: onto(message, dst), g2: key.negate() }]
  return Fp12.eql(bn254.pairingBatch(pairs), Fp12.ONE)
}

// --- IDs ---

function numberOf(digits, groups) {
  const parts = digits.split(' ')
  must(parts.length === groups && parts.every((part) => /^[0-9]{6}$/.test(part)), 'not that many groups')
  parts.forEach((part, index) => {
    const state = [...part].reduce((row, digit) => DAMM[row][digit], (index + 1) % 10)
    must(Number(state) === 0, `group ${index + 1} does not hold`)
  })
  return BigInt(parts.map((part) => part.slice(0, 5)).join(''))
}

const framed = (...parts) => Buffer.concat(parts.flatMap((part) => {
  const data = Buffer.from(part)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  return [length, data]
}))
const sized = (number, length) => Buffer.from(number.toString(16).padStart(2 * length, '0'), 'hex')

function take(number, ...widths) {
  const fields = []
  for (const width of widths.reverse()) {
    fields.unshift(number & ((1n << BigInt(width)) - 1n))
    number >>= BigInt(width)
  }
  must(number === 0n, 'too many bits')
  return fields
}

function installationFields(number) {
  const [version, serial, channel, seat, commitment, proof] = take(number, 4, 28, 3, 44, 40, 30)
  must(version === 1n || version === 2n, 'a version that is not known')
  must(channel < CHANNELS.length, 'a channel that is not known')
  return { version, serial, channel, seat, commitment, proof }
}

function checkInstallation(item) {
  const number = numberOf(item.digits, 9)
  must(number === BigInt('0x' + item.number), 'digits and number differ')
  const { version, serial, channel, seat, commitment, proof } = installationFields(number)
  must(Number(serial) === item.serial && CHANNELS[channel] === item.channel, 'another key')
  must((version === 2n) === item.weak, 'another kind of evidence')
  const order = ['vm', 'board+uuid', 'board+disk', 'disk+uuid', 'board+nic', 'nic+uuid', 'disk+nic']
  const first = order.find((name) => name in item.pairs)
  const prefix = first ? item.pairs[first] : Buffer.from(item.jkt, 'base64url').toString('hex')
  must(sized(seat << 4n, 6).toString('hex').slice(0, 11) === prefix.slice(0, 11), 'another seat')
  const salt = bytes(item.salt)
  const json = JSON.stringify(Object.fromEntries(Object.keys(item.vector).sort().map((name) => [name, item.vector[name]])))
  const committed = createHash('sha256').update(salt).update(json).digest('base64url')
  const password = framed('keyturn installation-id v1', item.product, committed, item.jkt)
  must(big(scryptSync(password, salt, 5, { N: 16384, r: 8, p: 1 })) === commitment, 'another commitment')
  const before = Buffer.concat([framed('keyturn installation-id v1', item.product), sized(number >> 30n, 15)])
  const mac = createHmac('sha256', bytes(item.k)).update(before).digest().subarray(0, 4)
  must(big(mac) >> 2n === proof, 'another proof')
}

// A validation ID from its digits to its fields, and both MACs made again.
function checkValidation(item) {
  const number = numberOf(item.digits, 7)
  must(number === BigInt('0x' + item.number), `${item.story}: digits and number differ`)
  const [version, serial, channel, seat, nonce, proof] = take(number, 4, 28, 3, 44, 11, 20)
  must(version === (item.weak ? 2n : 1n) && Number(serial) === item.serial && CHANNELS[channel] === item.channel, `${item.story}: another key`)
  must(seat === BigInt('0x' + item.seat) && Number(nonce) === item.nonce, `${item.story}: other fields`)
  const mac = (...parts) => big(createHmac('sha256', bytes(item.k)).update(Buffer.concat(parts)).digest().subarray(0, 4))
  must(mac(framed('keyturn validation-id v1', item.product), sized(number >> 20n, 12)) >> 12n === proof, `${item.story}: another proof`)
  for (const answer of item.answers) {
    const code = numberOf(answer.digits, 2)
    const tag = mac(framed('keyturn verdict-code v1', item.product), sized(number, 14), Buffer.from([answer.finding])) >> 2n
    must(code === BigInt('0x' + answer.number) && code === ((BigInt(answer.finding) << 30n) | tag), `${item.story}: another verdict`)
  }
}

function confirmationFields(digits) {
  const number = numberOf(digits, 16)
  const [head, short] = take(number, 9, 255)
  return { number, head, short, index: head >> 7n, edition: (head >> 4n) & 7n, term: head & 15n }
}

const messageOf = (product, installation, head) =>
  Buffer.concat([framed('keyturn confirmation-id v1', product), sized(installation, 19), sized(head, 2)])

// --- hosts ---

const DAY = 86400
const url = (data) => Buffer.from(data).toString('base64url')
const jwkOf = (key) => ({ crv: 'Ed25519', kty: 'OKP', x: url(bytes(key)) })
const thumbprint = (key) => createHash('sha256').update(JSON.stringify(jwkOf(key))).digest('base64url')
const written54 = (number) => {
  const digits = number.toString().padStart(45, '0')
  return Array.from({ length: 9 }, (_, place) => {
    const data = digits.slice(5 * place, 5 * place + 5)
    return data + [...data].reduce((row, digit) => DAMM[row][digit], (place + 1) % 10)
  }).join('')
}

function hostFields(digits) {
  const number = numberOf(digits, 35)
  const [edition, day, lease_days, threshold, serial, signature] = take(number, 3, 9, 10, 10, 28, 512)
  return { number, edition, day, lease_days, threshold, serial, signature }
}

// The document as both sides make it: header and payload with their names sorted, and no white space.
function signedByHostAnswer(product, installation, fields, issuer, nbf) {
  const header = JSON.stringify({ alg: 'EdDSA', kid: thumbprint(issuer), typ: 'keyturn-host-phone+jwt' })
  const iat = nbf + Number(fields.day) * DAY
  const payload = JSON.stringify({
    edition: Number(fields.edition), exp: iat + 365 * DAY, iat, installation_id: written54(installation),
    lease_days: Number(fields.lease_days), product, serves: Number(fields.serial), test: product.endsWith('+test'),
    threshold: Number(fields.threshold), v: 1,
  })
  return { payload, signed: `${url(header)}.${url(payload)}` }
}

const ed25519 = (issuer, signed, signature) =>
  verify(null, Buffer.from(signed), createPublicKey({ key: jwkOf(issuer), format: 'jwk' }), signature)

// A certificate as a host shows it: whether a computer believes it, for the ID and the issuing key that it should be of.
function certificateHolds(certificate, product, installation, issuer) {
  const [document, beside, ...more] = certificate.split('~')
  must(beside && more.length === 0, 'not two parts')
  const [header, payload, signature] = document.split('.')
  must(JSON.parse(Buffer.from(header, 'base64url')).kid === thumbprint(issuer), 'another issuing key')
  must(ed25519(issuer, `${header}.${payload}`, Buffer.from(signature, 'base64url')), 'the signature does not hold')
  must(JSON.parse(Buffer.from(payload, 'base64url')).installation_id === written54(installation), 'another installation ID')
  const text = Buffer.from(beside, 'base64url').toString()
  const { commitment, jwk, salt } = JSON.parse(text)
  const { crv, kty, x } = jwk
  must(text === JSON.stringify({ commitment, jwk: { crv, kty, x }, salt }), 'written in another way')
  const key = Buffer.from(x, 'base64url').toString('hex')
  const fields = installationFields(installation)
  const salted = Buffer.from(salt, 'base64url')
  const password = framed('keyturn installation-id v1', product, commitment, thumbprint(key))
  must(big(scryptSync(password, salted, 5, { N: 16384, r: 8, p: 1 })) === fields.commitment, 'another commitment')
  const named = Buffer.from(thumbprint(key), 'base64url').toString('hex').slice(0, 11)
  must(fields.version === 1n || sized(fields.seat << 4n, 6).toString('hex').slice(0, 11) === named, 'another key')
  return key
}

function checkHost(item) {
  const fields = hostFields(item.digits)
  must(fields.number === BigInt('0x' + item.number), `${item.story}: other digits`)
  for (const name of ['edition', 'day', 'lease_days', 'threshold', 'serial']) {
    must(Number(fields[name]) === item[name], `${item.story}: another ${name}`)
  }
  const installation = BigInt('0x' + item.installation_id)
  const { payload, signed } = signedByHostAnswer(item.product, installation, fields, item.public, item.nbf)
  must(payload === item.payload, `${item.story}: another document`)
  must(ed25519(item.public, signed, sized(fields.signature, 64)), `${item.story}: the signature does not hold`)
  must(item.certificate.startsWith(`${signed}.${url(bytes(item.signature))}~`), `${item.story}: another certificate`)
  const key = certificateHolds(item.certificate, item.product, installation, item.public)
  must(key === item.host, `${item.story}: another host`)
}

function hostRefused(item, one) {
  try {
    if (item.form === 'certificate') {
      certificateHolds(item.typed, one.product, BigInt('0x' + one.installation_id), one.public)
      return false
    }
    const fields = hostFields(item.typed)
    const { signed } = signedByHostAnswer(one.product, BigInt('0x' + one.installation_id), fields, one.public, one.nbf)
    return !ed25519(one.public, signed, sized(fields.signature, 64))
  } catch {
    return item.code !== 'code_foreign'
  }
}

function main([file]) {
  const vectors = JSON.parse(readFileSync(file, 'utf8'))
  const dst = vectors.dst
  // 1.
  for (const item of vectors.hash_to_curve) {
    const { x, y } = onto(bytes(item.message), item.dst).toAffine()
    must(x === BigInt('0x' + item.x) && y === BigInt('0x' + item.y), `another point of ${item.message.slice(0, 40)}`)
  }
  // 2.
  for (const item of vectors.keys) {
    const made = G2.Point.BASE.multiply(BigInt('0x' + item.secret))
    must(written(made) === item.public && publicKey(item.public).equals(made), `${item.story}: another public key`)
  }
  for (const item of vectors.refused_keys) {
    let refused = false
    try { publicKey(item.public) } catch { refused = true }
    must(refused, `${item.story}: taken for a key`)
  }
  // 3.
  for (const item of vectors.installation_ids) checkInstallation(item)
  // 4.
  const secrets = new Map(vectors.keys.map((item) => [item.public, BigInt('0x' + item.secret)]))
  for (const item of vectors.confirmation_ids) {
    const { number, head, short, index, edition, term } = confirmationFields(item.digits)
    must(number === BigInt('0x' + item.number) && short === BigInt('0x' + item.signature), `${item.story}: other digits`)
    must(index === BigInt(item.index) && edition === BigInt(item.edition) && term === BigInt(item.term), `${item.story}: other fields`)
    const message = messageOf(item.product, BigInt('0x' + item.installation_id), head)
    must(message.toString('hex') === item.message, `${item.story}: another message`)
    const point = signaturePoint(short)
    must(onto(message, dst).multiply(Fr.create(secrets.get(item.public))).equals(point), `${item.story}: another signature`)
    must(holds(publicKey(item.public), point, message, dst), `${item.story}: the signature does not hold`)
    for (const other of vectors.installation_ids) {
      if (other.number === item.installation_id && other.product === item.product) continue
      const foreign = messageOf(other.product, BigInt('0x' + other.number), head)
      must(!holds(publicKey(item.public), point, foreign, dst), `${item.story}: it answers ${other.story} too`)
    }
  }
  // 5.
  const one = vectors.installation_ids[0]
  const key = publicKey(vectors.confirmation_ids[0].public)
  let judged = 0
  for (const item of vectors.refused) {
    if (item.words !== null || /[a-z]/.test(item.typed)) continue
    judged += 1
    let held = false
    try {
      if (item.form === 'installation') {
        installationFields(numberOf(item.typed, 9))
        held = true
      } else {
        const { head, short } = confirmationFields(item.typed)
        const point = signaturePoint(short)
        must(item.code === 'code_foreign', `${item.story}: a point, and refused as none`)
        held = head >> 7n === 0n && holds(key, point, messageOf(one.product, BigInt('0x' + one.number), head), dst)
      }
    } catch (error) {
      must(item.code !== 'code_foreign', `${item.story}: ${error.message}`)
    }
    must(!held, `${item.story}: taken for an ID`)
  }
  // 6.
  for (const item of vectors.validations) checkValidation(item)
  // 7.
  for (const item of vectors.host_confirmations) checkHost(item)
  const answer = vectors.host_confirmations[0]
  let hosts = 0
  for (const item of vectors.refused_hosts) {
    if (item.form === 'host' && /[a-z]/.test(item.typed)) continue
    hosts += 1
    must(hostRefused(item, answer), `${item.story}: taken for a host's`)
  }
  const count = (name) => vectors[name].length
  console.log(JSON.stringify({
    hash_to_curve: count('hash_to_curve'), keys: count('keys'), refused_keys: count('refused_keys'),
    installation_ids: count('installation_ids'), confirmation_ids: count('confirmation_ids'), refused: judged,
    validations: count('validations'), host_confirmations: count('host_confirmations'), refused_hosts: hosts,
  }))
}

try {
  main(process.argv.slice(2))
} catch (error) {
  console.error(`does not hold: ${error.message}`)
  process.exitCode = 1
}
