/**
 * Types of the resources that the client relies on, from the server's OpenAPI document:
 * `curl $URL/openapi.json | npm run --silent api > client/src/openapi.ts`
 */
import { text } from 'node:stream/consumers';
import openapiTS, { astToString } from 'openapi-typescript';

const HEADER =
  '/** Generated from the server by `npm run api` (see openapi/generate.mjs); a browser test says when it is stale. */\n\n';
const USED = [
  'Generation',
  'Job',
  'JobCounts',
  'Project',
  'Quote',
  'Session',
  'SubmitBody',
  'Trace',
  'Wallet',
];

const document = JSON.parse(await text(process.stdin));
const schemas = {};

/** A schema, and those that it refers to. */
function take(name) {
  if (name in schemas) return;
  schemas[name] = document.components.schemas[name];
  for (const [, other] of JSON.stringify(schemas[name]).matchAll(/#\/components\/schemas\/([^"]+)/g))
    take(other);
}
for (const name of USED) take(name);

const ast = await openapiTS(
  {
    openapi: document.openapi,
    info: { title: 'Safelight', version: '1' },
    paths: {},
    components: { schemas },
  },
  { alphabetize: true, immutable: true },
);
process.stdout.write(HEADER + astToString(ast));
