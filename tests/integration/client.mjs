// The AMQP API from another language: prints what it hears, as one JSON object. Used by test_amqp_clients.py.
//
// usage: node client.mjs MODULES URL TOKEN BODY      (MODULES: where amqplib is; BODY: of vm.create, as JSON)

import { createRequire } from 'node:module'

const [modules, url, token, body] = process.argv.slice(2)
const amqp = createRequire(`${modules}/`)('amqplib')

const connection = await amqp.connect(url)
const channel = await connection.createChannel()
const waiting = new Map()
const events = []
let heard = () => {}

const { queue: replies } = await channel.assertQueue('', { exclusive: true })
await channel.consume(replies, (message) => waiting.get(message.properties.correlationId)(message), { noAck: true })
const { queue: feed } = await channel.assertQueue('', { exclusive: true })
await channel.bindQueue(feed, 'mgmtnode.events', 'vm.*')
await channel.consume(feed, (message) => {
  events.push({ key: message.fields.routingKey, ...JSON.parse(message.content) })
  heard()
}, { noAck: true })

// The answers to one request: until its end, its result or its problem.
function ask (key, content, { bearer = token, messageId } = {}) {
  const correlationId = Math.random().toString(36)
  return new Promise((resolve) => {
    const answers = []
    waiting.set(correlationId, (message) => {
      const { type, headers } = message.properties
      answers.push({ type, status: headers.status, body: JSON.parse(message.content) })
      if (type !== 'job.accepted') resolve(answers)
    })
    channel.publish('mgmtnode.api', key, Buffer.from(content), {
      contentType: 'application/json',
      replyTo: replies,
      correlationId,
      messageId,
      headers: { authorization: `Bearer ${bearer}` }
    })
  })
}

const first = await ask('vm.create', body, { messageId: 'from-node' })
const again = await ask('vm.create', body, { messageId: 'from-node' })
const refused = await ask('vm.create', body, { bearer: 'wrong' })
const list = await ask('vm.list', '{"fields": ["name", "state"]}')
const uuid = first[0].body.resource_uuid
while (!events.some((event) => event.resource_uuid === uuid && event.name === 'vm.state-changed')) {
  await new Promise((resolve) => { heard = resolve })
}
console.log(JSON.stringify({ first, again, refused, list, events }))
await connection.close()
