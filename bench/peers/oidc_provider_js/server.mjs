// node-oidc-provider for client credentials and introspection, by as many processes as PROCESSES says.
import cluster from 'node:cluster';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import process from 'node:process';
import Provider from 'oidc-provider';
import PostgresAdapter from './adapter.mjs';

const { PORT, CLIENT_ID, CLIENT_SECRET } = process.env;
const processes = Number(process.env.PROCESSES);

function serve() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const provider = new Provider(`http://127.0.0.1:${PORT}`, {
    adapter: PostgresAdapter,
    clients: [{
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      grant_types: ['client_credentials'],
      id_token_signed_response_alg: 'ES256',
      redirect_uris: [],
      response_types: [],
      scope: 'read',
      token_endpoint_auth_method: 'client_secret_post',
    }],
    cookies: { keys: [randomBytes(32).toString('hex')] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
    },
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
    scopes: ['read'],
    ttl: { ClientCredentials: 3600 },
  });
  const server = provider.listen(Number(PORT), '127.0.0.1');
  server.keepAliveTimeout = 65_000;
}

if (cluster.isPrimary && processes > 1) {
  for (let at = 0; at < processes; at += 1) cluster.fork();
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill();
    process.exit(0);
  });
} else {
  serve();
}
