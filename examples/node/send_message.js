// Send one message to the service from Node.js.
//
//     npm install
//     BROKER_URL=redis://localhost:6379/0 node send_message.js "Hello, are you open today?"
//
// It prints the message_id once Redis has confirmed, otherwise it exits with 1: in that case send the
// message again, with the same message_id.
const { randomUUID } = require("node:crypto");
const celery = require("celery-node");

const TIMEOUT_MS = 10_000;

async function send(client, envelope) {
  const message = client.createTaskMessage(randomUUID(), "messages.receive", [], { envelope });
  await client.isReady();
  // Not client.sendTask: it does not report whether Redis stored the message.
  await client.broker.publish(message.body, "", "inbound", message.headers, message.properties);
}

async function main() {
  const client = celery.createClient(process.env.BROKER_URL, process.env.BROKER_URL);
  const envelope = {
    version: 1,
    channel: "web",
    user: "visitor-1",
    // The channel's own id of the message, so that a repetition has no effect.
    message_id: process.env.MESSAGE_ID || randomUUID(),
    text: process.argv.slice(2).join(" ") || "Hello!",
    sent_at: new Date().toISOString(),
  };
  const late = setTimeout(() => fail(new Error("no answer in time")), TIMEOUT_MS);
  await send(client, envelope);
  clearTimeout(late);
  console.log(envelope.message_id);
  await client.disconnect();
}

function fail(error) {
  console.error(`not confirmed (${error.message}): send it again, that is safe`);
  process.exit(1);
}

main().catch(fail);
