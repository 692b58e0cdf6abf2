// oauth4webapi, unchanged, against a real server: argument 1 is a JSON object with what to use.
import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'

const given = JSON.parse(process.argv[2])
const insecure = { [oauth.allowInsecureRequests]: true }

const issuer = new URL(given.issuer)
const as = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }),
)

async function authentication(client) {
  if (client.jwk) {
    const key = await crypto.subtle.importKey(
      'jwk', client.jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'],
    )
    return oauth.PrivateKeyJwt({ key, kid: client.jwk.kid })
  }
  return client.method === 'client_secret_basic'
    ? oauth.ClientSecretBasic(client.client_secret)
    : oauth.ClientSecretPost(client.client_secret)
}

for (const entry of given.clients) {
  const client = { client_id: entry.client_id }
  const proof = await authentication(entry)
  const signed = { ...client, introspection_signed_response_alg: 'ES256' }

  async function introspect(token, as_client = client, options = {}) {
    const response = await oauth.introspectionRequest(as, as_client, proof, token, { ...options, ...insecure })
    if (options.requestJwtResponse) {
      assert.match(response.headers.get('content-type'), /^application\/token-introspection\+jwt/)
      const result = await oauth.processIntrospectionResponse(as, as_client, response)
      await oauth.validateApplicationLevelSignature(as, response, insecure)
      return result
    }
    return oauth.processIntrospectionResponse(as, as_client, response)
  }

  const granted = await oauth.processClientCredentialsResponse(
    as, client,
    await oauth.clientCredentialsGrantRequest(as, client, proof, new URLSearchParams({ scope: 'read' }), insecure),
  )
  const token = granted.access_token
  assert.equal(granted.scope, 'read')
  if (entry.format === 'jwt') {
    const request = new Request(given.resource, { headers: { authorization: `Bearer ${token}` } })
    const claims = await oauth.validateJwtAccessToken(as, request, given.resource, insecure)
    assert.equal(claims.client_id, entry.client_id)
  }
  assert.equal((await introspect(token)).active, true)
  assert.equal((await introspect(token, signed, { requestJwtResponse: true })).scope, 'read')
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, proof, token, insecure))
  assert.deepEqual(await introspect(token), { active: false })
  console.log(`${entry.client_id}: ok`)
}
