// Drives the unmodified clients by commands on standard input, one JSON a line; says what happens on standard output.
const readline = require('node:readline')
const WebSocket = require('ws')
const { RealtimeClient } = require('@supabase/realtime-js')
const { createClient } = require('@supabase/supabase-js')

const clients = new Map()
const channels = new Map()
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)

const shown = (payload) =>
  payload && payload.payload instanceof ArrayBuffer
    ? { ...payload, payload: { bytes: [...new Uint8Array(payload.payload)] } }
    : payload

const commands = {
  open({ client, kind, url, key, token, options }) {
    if (kind === 'supabase') {
      const accessToken = token ? { accessToken: async () => clients.get(client).token } : {}
      const made = createClient(url, key, { ...accessToken, realtime: { transport: WebSocket, ...options } })
      clients.set(client, { root: made, token })
      return
    }
    const made = new RealtimeClient(`${url.replace('http', 'ws')}/realtime/v1`, {
      transport: WebSocket,
      params: { apikey: key },
      ...options,
    })
    clients.set(client, { root: made })
    if (token) return made.setAuth(token)
  },
  channel({ client, name, topic, config, on }) {
    const channel = clients.get(client).root.channel(topic, { config })
    for (const { type, filter } of on ?? []) {
      channel.on(type, filter, (payload) => say({ channel: name, on: type, payload: shown(payload) }))
    }
    channels.set(name, channel)
  },
  subscribe({ name }) {
    channels.get(name).subscribe((status, error) => say({ channel: name, status, error: error?.message ?? null }))
  },
  send({ name, message, bytes }) {
    const whole = bytes ? { ...message, payload: new Uint8Array(bytes).buffer } : message
    return channels.get(name).send(whole)
  },
  httpSend({ name, event, payload }) {
    return channels.get(name).httpSend(event, payload)
  },
  track: ({ name, meta }) => channels.get(name).track(meta),
  untrack: ({ name }) => channels.get(name).untrack(),
  presence: ({ name }) => channels.get(name).presenceState(),
  leave: ({ name }) => channels.get(name).unsubscribe(),
  setToken({ client, token }) {
    const found = clients.get(client)
    if ('token' in found && found.token) found.token = token
    return (found.root.realtime ?? found.root).setAuth(found.token ? undefined : token)
  },
  state: ({ name }) => channels.get(name).state,
  end: () => setTimeout(() => process.exit(0), 50),
}

process.on('unhandledRejection', (error) => say({ failed: String(error?.stack ?? error) }))
process.on('uncaughtException', (error) => say({ failed: String(error?.stack ?? error) }))
readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, command, ...args } = JSON.parse(line)
  try {
    say({ id, value: (await commands[command](args)) ?? null })
  } catch (error) {
    say({ id, error: String(error?.stack ?? error) })
  }
})
