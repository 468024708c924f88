// An OpenID Connect provider, with users of a hospital. Run with
//
//   node oidc.mjs
//
// A line of JSON says where it is and has tokens: of users, as the provider gives them, and some that nobody may believe.
// Each further line on standard input has it change its key, and say the same again. It ends when standard input does.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { SignJWT, UnsecuredJWT, exportJWK, generateKeyPair, importJWK } from 'jose';
import Provider from 'oidc-provider';

const AUDIENCE = 'pacs';
/** Who may get a token, and what the provider says that they are. */
const USERS = { anna: ['radiologist'], carla: ['cardiologist'], olga: ['operator'], nobody: ['visitor'] };
const SECRET = 'between-the-provider-and-who-asks-it';

const server = createServer((request, response) => answer(request, response));
let answer;
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

async function key(id) {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  return { ...await exportJWK(privateKey), kid: id, alg: 'RS256', use: 'sig' };
}

function provide(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(USERS).map((name) => ({
      client_id: name, client_secret: SECRET, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:hospital:pacs',
        getResourceServerInfo: () => ({
          scope: 'pacs', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims: (_, token) => ({ roles: USERS[token.clientId] }),
    ttl: { ClientCredentials: 600 },
  });
  answer = provider.callback();
}

async function asked(name) {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${name}:${SECRET}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'pacs' }),
  });
  const said = await response.json();
  if (!said.access_token) throw new Error(JSON.stringify(said));
  return said.access_token;
}

/** A token of anna's, but for what it is made with. */
async function made(by, { id = by.kid, algorithm = 'RS256', audience = AUDIENCE, of = issuer, from = 0, until = 600 } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: 'anna', roles: USERS.anna, iss: of, aud: audience, nbf: now + from, exp: now + until };
  const secret = algorithm.startsWith('HS') ? by : await importJWK(by, algorithm);
  return new SignJWT(claims).setProtectedHeader({ alg: algorithm, kid: id }).sign(secret);
}

async function say(own) {
  const tokens = {};
  for (const name of Object.keys(USERS)) tokens[name] = await asked(name);
  const foreign = await key(own.kid);
  // Who takes a public key for a secret believes whoever knows the key, which everybody does.
  const [published] = (await (await fetch(`${issuer}/jwks`)).json()).keys;
  const guessed = new TextEncoder().encode(published.n);
  const [head, , signature] = tokens.nobody.split('.');
  const bad = {
    expired: await made(own, { from: -700, until: -100 }),
    'not yet valid': await made(own, { from: 300 }),
    'another audience': await made(own, { audience: 'another' }),
    'another issuer': await made(own, { of: 'https://login.elsewhere.example' }),
    'another key': await made(foreign),
    'a key that is nowhere': await made(foreign, { id: 'nowhere' }),
    'no algorithm': new UnsecuredJWT({ sub: 'anna', roles: USERS.anna }).setIssuer(issuer).setAudience(AUDIENCE)
      .setExpirationTime('1h').encode(),
    'a public key as a secret': await made(guessed, { id: own.kid, algorithm: 'HS256' }),
    'a changed claim': [head, tokens.anna.split('.')[1], signature].join('.'),
    'no signature': `${tokens.anna.split('.').slice(0, 2).join('.')}.`,
    nonsense: 'nonsense',
  };
  console.log(JSON.stringify({ issuer, audience: AUDIENCE, tokens, bad }));
}

let number = 1;
let own = await key(`key-${number}`);
provide([own]);
await say(own);
for await (const _ of createInterface({ input: process.stdin })) {
  number += 1;
  own = await key(`key-${number}`);
  provide([own]);
  await say(own);
}
server.close();
server.closeAllConnections();
