// Keeps what node-oidc-provider stores in PostgreSQL: one prepared statement for each act.
import pg from 'pg';

const pool = new pg.Pool({ max: 8, idleTimeoutMillis: 0 });

const UPSERT = `INSERT INTO payloads (id, payload, grant_id, uid, expires_at)
VALUES ($1, $2, $3, $4, now() + $5 * interval '1 second')
ON CONFLICT (id) DO UPDATE SET payload = excluded.payload, grant_id = excluded.grant_id, uid = excluded.uid,
  expires_at = excluded.expires_at`;
const LIVE = '(expires_at IS NULL OR expires_at > now())';

async function one(name, text, values) {
  const { rows } = await pool.query({ name, text, values });
  return rows[0]?.payload;
}

export default class PostgresAdapter {
  constructor(kind) {
    this.kind = kind;
  }

  key(id) {
    return `${this.kind}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const values = [this.key(id), payload, payload.grantId ?? null, payload.uid ?? null, expiresIn ?? null];
    await pool.query({ name: 'upsert', text: UPSERT, values });
  }

  find(id) {
    return one('find', `SELECT payload FROM payloads WHERE id = $1 AND ${LIVE}`, [this.key(id)]);
  }

  findByUid(uid) {
    return one('uid', `SELECT payload FROM payloads WHERE uid = $1 AND ${LIVE}`, [uid]);
  }

  async findByUserCode() {
    return undefined; // no device flow
  }

  async consume(id) {
    const text = "UPDATE payloads SET payload = (payload::jsonb || $2)::json WHERE id = $1";
    await pool.query({ name: 'consume', text, values: [this.key(id), { consumed: Math.floor(Date.now() / 1000) }] });
  }

  async destroy(id) {
    await pool.query({ name: 'destroy', text: 'DELETE FROM payloads WHERE id = $1', values: [this.key(id)] });
  }

  async revokeByGrantId(grantId) {
    await pool.query({ name: 'grant', text: 'DELETE FROM payloads WHERE grant_id = $1', values: [grantId] });
  }
}
