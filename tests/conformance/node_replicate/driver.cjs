// Drives the official `replicate` client and prints what it saw as one JSON object.
// usage: node driver.cjs <base url of the replicate emulator>
const http = require("node:http");
const Replicate = require("replicate");
const { validateWebhook } = Replicate;

const [, , base] = process.argv;
const replicate = new Replicate({ auth: "r8_token", baseUrl: `${base}/v1`, useFileOutput: false });
const MODEL = "black-forest-labs/flux-schnell";
const VERSION = `somebody/something:${"0123456789abcdef".repeat(4)}`;
const input = (faults = {}, more = {}) => ({
  prompt: "a red fox",
  width: 64,
  height: 64,
  ...more,
  _emulator: { latency_s: 0.3, ...faults },
});

async function fails(action) {
  try {
    await action();
  } catch (error) {
    return { name: error.name, status: error.response?.status ?? null, message: error.message };
  }
  return null;
}

function receiver() {
  const came = [];
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      came.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.end();
    });
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done({ server, came })));
}

async function until(condition) {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error("waited too long");
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function main() {
  const seen = {};

  // create, get, wait, list
  const created = await replicate.predictions.create({ model: MODEL, input: input({ latency_s: 1.2, queue_s: 1.0 }) });
  seen.created = created;
  seen.ended = await replicate.wait(created, { interval: 50 });
  seen.got = await replicate.predictions.get(created.id);
  seen.listed = (await replicate.predictions.list()).results.map((each) => each.id);

  // run: blocking, polling, by version, of a deployment
  const states = [];
  seen.run = await replicate.run(MODEL, { input: input() }, (prediction) => states.push(prediction.status));
  seen.runStates = states;
  seen.polled = await replicate.run(MODEL, { input: input(), wait: { mode: "poll", interval: 50 } });
  seen.version = await replicate.run(VERSION, { input: input() });
  const deployed = await replicate.deployments.predictions.create("acme", "flux", { input: input() });
  seen.deployed = (await replicate.wait(deployed, { interval: 50 })).status;
  const impatient = await replicate.predictions.create({ model: MODEL, input: input({ latency_s: 60, queue_s: 60 }), wait: 1 });
  seen.impatient = impatient.status;

  // cancel
  seen.canceled = await replicate.predictions.cancel(impatient.id);
  seen.canceledEnd = (await replicate.wait(seen.canceled, { interval: 50 })).status;

  // files, by themselves and as a part of an input
  const blob = new Blob([new Uint8Array([137, 80, 78, 71, 13, 10, 255, 0, 13, 10])], { type: "image/png" });
  const file = await replicate.files.create(blob, { note: "mine" });
  seen.file = file;
  seen.fileBytes = [...new Uint8Array(await (await fetch(file.urls.get)).arrayBuffer())];
  const withImage = await replicate.predictions.create({ model: MODEL, input: input({}, { image: blob }) });
  seen.withImage = withImage.id;

  // stream
  seen.streamed = [];
  for await (const event of replicate.stream(MODEL, { input: input() })) seen.streamed.push(event.event);

  // webhooks, checked as the client checks them
  const { server, came } = await receiver();
  const webhook = `http://127.0.0.1:${server.address().port}/hooks/replicate/attempt-1/token`;
  const told = await replicate.predictions.create({ model: MODEL, input: input({ latency_s: 2.5, queue_s: 0.2 }), webhook });
  const statuses = () => came.map((each) => JSON.parse(each.body).status);
  await until(() => came.some((each) => each.headers["webhook-id"].endsWith("completed")));
  const { key } = await replicate.webhooks.default.secret.get();
  seen.valid = [];
  for (const each of came) {
    const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = each.headers;
    seen.valid.push(await validateWebhook({ id, timestamp, signature, body: each.body, secret: key }));
  }
  seen.statuses = statuses();
  seen.toldId = told.id;
  seen.hookIds = came.map((each) => JSON.parse(each.body).id);
  const last = came[came.length - 1];
  seen.changed = await validateWebhook({
    id: last.headers["webhook-id"],
    timestamp: last.headers["webhook-timestamp"],
    signature: last.headers["webhook-signature"],
    body: last.body.replace("red", "blue"),
    secret: key,
  });
  server.close();

  // errors
  seen.failed = await fails(() => replicate.run(MODEL, { input: input({ fail: "content_policy" }) }));
  seen.invalid = await fails(() => replicate.run(MODEL, { input: { width: 64 } }));
  seen.unknown = await fails(() => replicate.predictions.get("nobody"));
  seen.broke = await fails(() => replicate.run(MODEL, { input: input({ submit: "402" }) }));
  seen.stranger = await fails(() => new Replicate({ auth: "", baseUrl: `${base}/v1` }).predictions.get("x"));
  const patient = await replicate.predictions.create({
    model: MODEL,
    input: input({ submit: "429", submit_times: 1, retry_after_s: 0 }, { prompt: "patience" }),
  });
  seen.patient = patient.id;

  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
