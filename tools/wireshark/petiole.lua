-- A Wireshark dissector for the petiole protocol, version 1 (PROTOCOL.md).
--
--   petiole tap --pcapng - | wireshark -X lua_script:petiole.lua -k -i -
--
-- or put this file into Wireshark's folder of personal Lua plugins (Help, About, Folders).
--
-- Captures have the link type USER0 (147). In front of each frame stands, big-endian:
--
--   u8   version of this header: 1
--   u8   flags: 01 downlink, 02 the plaintext follows, 04 the counter is known, 08 the reference is known
--   u32  counter: the whole one, of which a frame may show the lowest byte
--   u32  reference: the highest sequence number that the gateway had taken before this frame (PROTOCOL.md, section 9)
--   u8   length, then the name of the device; empty where it is not known
--   u8   length, then the reason for which the gateway dropped the frame; empty where it took it
--   u16  length, then the plaintext, as the gateway opened it
--
-- The gateway opens frames with the keys it has. Without a plaintext only what travels in the open is shown.

local petiole = Proto("petiole", "Petiole")

local MAX_FRAME, MAX_MESSAGE, FRAGMENT_SIZE, MAX_VALUE = 250, 4096, 224, 1024
local JOIN_TAG, TAG, MAX_DEPTH, MAX_ITEMS, MAX_OPEN = 4, 8, 8, 1024, 2

local TYPES = { [1] = "DATA", [2] = "ACK", [3] = "JOIN_REQUEST", [4] = "JOIN_ACCEPT", [5] = "REJECT" }
-- Shortest body (what follows header and address), and the reserved bits as {divisor, modulus} of the header.
local SHORTEST = { [1] = 1 + JOIN_TAG, [2] = JOIN_TAG, [3] = 16, [4] = 18, [5] = 4 }
local REASONS = { [0] = "the session is not known here", [1] = "the join is refused", [2] = "the version is not spoken",
                  [3] = "not now" }
local KINDS = {
    [0x40] = "ACK", [0x41] = "FRAGMENT", [0x42] = "TIME", [0x43] = "TIME_REQUEST", [0x44] = "SLEEP", [0x45] = "BUSY",
    [0x46] = "FLOOR", [0x47] = "SEQUENCE", [0x48] = "COUNTER_FLOOR", [0x49] = "PING", [0x4A] = "MANIFEST_REQUEST",
    [0x4B] = "PENDING", [0x4C] = "AWAKE", [0x4D] = "MESSAGE_TAKEN", [0x01] = "REQUEST", [0x02] = "REPLY",
    [0x03] = "MANIFEST", [0x04] = "LOG", [0x09] = "MAIL", [0x0A] = "MAIL_RESULT",
    [0x0B] = "MAIL_RETURN", [0x10] = "POLICY",
}
-- What the elements of the array of an extension record are.
local ELEMENTS = {
    [0x01] = { "id", "target", "arguments", "timeout_ms" }, [0x02] = { "id", "status", "value" },
    [0x04] = { "level", "text" }, [0x09] = { "item", "target", "arguments", "attempt" },
    [0x0A] = { "item", "status", "value" }, [0x10] = { "period_s", "spacing_ms" },
}

local f = {
    device = ProtoField.string("petiole.device", "Device"),
    direction = ProtoField.string("petiole.direction", "Direction"),
    dropped = ProtoField.string("petiole.dropped", "Dropped"),
    plaintext = ProtoField.bytes("petiole.plaintext", "Plaintext"),
    frame = ProtoField.bytes("petiole.frame", "Frame"),
    type = ProtoField.uint8("petiole.type", "Type", base.DEC, TYPES),
    version = ProtoField.uint8("petiole.version", "Version"),
    full = ProtoField.bool("petiole.full_sequence", "Full sequence (F)"),
    doubtful = ProtoField.bool("petiole.doubtful", "Doubtful clock"),
    address = ProtoField.uint16("petiole.address", "Address"),
    counter = ProtoField.uint32("petiole.counter", "Counter"),
    short_counter = ProtoField.uint8("petiole.counter.low", "Counter, lowest byte"),
    acked = ProtoField.uint8("petiole.acked.low", "Acknowledged counter, three lowest bits"),
    device_id = ProtoField.bytes("petiole.join.device_id", "Device id"),
    random = ProtoField.bytes("petiole.join.random", "Random"),
    boot = ProtoField.uint8("petiole.join.boot", "Boot count, lowest byte"),
    reason = ProtoField.uint8("petiole.reject.reason", "Reason", base.DEC, REASONS),
    echo = ProtoField.bytes("petiole.reject.echo", "Echo"),
    ciphertext = ProtoField.bytes("petiole.ciphertext", "Ciphertext"),
    tag = ProtoField.bytes("petiole.tag", "Tag"),
    time = ProtoField.absolute_time("petiole.time", "Time", base.UTC),
    time_ms = ProtoField.uint64("petiole.time_ms", "Time (ms since 1970)"),
    record = ProtoField.uint8("petiole.record", "Record", base.HEX),
    highest = ProtoField.uint8("petiole.ack.highest", "Highest counter, lowest byte"),
    bitmap = ProtoField.uint8("petiole.ack.bitmap", "Bitmap", base.HEX),
    message = ProtoField.uint8("petiole.message", "Message"),
    index = ProtoField.uint8("petiole.fragment.index", "Index"),
    total = ProtoField.uint16("petiole.fragment.total", "Total"),
    data = ProtoField.bytes("petiole.fragment.data", "Data"),
    whole = ProtoField.bytes("petiole.message.data", "Reassembled message"),
    seconds = ProtoField.uint32("petiole.seconds", "Seconds"),
    listens = ProtoField.bool("petiole.sleep.listens", "Listens for the answer"),
    sequence = ProtoField.uint32("petiole.sequence", "Sequence"),
    sequence_low = ProtoField.uint8("petiole.sequence.low", "Sequence, lowest byte"),
    lost = ProtoField.uint32("petiole.floor.dropped", "Readings dropped by the outbox"),
    counter_floor = ProtoField.uint32("petiole.counter_floor", "Counter floor"),
    pending = ProtoField.uint32("petiole.pending", "Items that wait"),
    channel = ProtoField.uint8("petiole.reading.channel", "Channel"),
    confirmed = ProtoField.bool("petiole.reading.confirmed", "Confirmed"),
    age = ProtoField.uint32("petiole.reading.age_ms", "Age (ms)"),
    after = ProtoField.uint32("petiole.reading.after_ms", "After the one before (ms)"),
    value = ProtoField.string("petiole.reading.value", "Value"),
    item = ProtoField.string("petiole.item", "Item"),
    cbor = ProtoField.bytes("petiole.cbor", "CBOR"),
    malformed = ProtoField.string("petiole.malformed", "Malformed"),
}
local elements = {}
for _, names in pairs(ELEMENTS) do
    for _, name in ipairs(names) do
        elements[name] = elements[name] or ProtoField.string("petiole.item." .. name, name)
    end
end
local fields = {}
for _, field in pairs(f) do table.insert(fields, field) end
for _, field in pairs(elements) do table.insert(fields, field) end
petiole.fields = fields

local e_malformed = ProtoExpert.new("petiole.expert.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local e_dropped = ProtoExpert.new("petiole.expert.dropped", "Dropped by the gateway", expert.group.PROTOCOL, expert.severity.WARN)
local e_unknown = ProtoExpert.new("petiole.expert.unknown", "Unknown extension", expert.group.UNDECODED, expert.severity.NOTE)
petiole.experts = { e_malformed, e_dropped, e_unknown }

petiole.prefs.tag = Pref.uint("Tag length", TAG, "Of DATA frames whose plaintext is not known: 8, or 4 where both ends are set to it")

-- Numbers and CBOR, on Lua strings; positions count from 1. Everything returns nil for what is malformed. ------------

local function big(s, position, length)
    if position + length - 1 > #s then return nil end
    local value = length > 6 and 0.0 or 0 -- newer versions of Lua have integers, which would wrap
    for i = position, position + length - 1 do
        value = value * 256 + s:byte(i)
    end
    return value
end

local function varint(s, position)
    local value, scale = 0, 1
    for i = 0, 4 do
        local byte = s:byte(position + i)
        if byte == nil then return nil end
        value = value + (byte % 128) * scale
        if byte < 128 then
            if value > 4294967295 or (byte == 0 and i > 0) then return nil end
            return value, position + i + 1
        end
        scale = scale * 128
    end
    return nil
end

local function integer(value)
    return string.format("%.0f", value)
end

local function unsigned(s, position, length)
    -- Text and number; beyond 2^53 the number is not exact, the text is.
    local value = big(s, position, length)
    if value == nil then return nil end
    if length == 8 and value >= 9007199254740992 then
        return tostring(UInt64.new(big(s, position + 4, 4), big(s, position, 4))), value
    end
    return integer(value), value
end

local function negative(s, position, length, value)
    if length < 8 or value < 9007199254740991 then return integer(-1 - value) end
    if s:sub(position, position + 7) == string.rep("\255", 8) then return "-18446744073709551616" end
    return "-" .. tostring(UInt64.new(big(s, position + 4, 4), big(s, position, 4)) + UInt64.new(1))
end

local function float(s, position, length)
    local exponents, mantissas = { [2] = 5, [4] = 8, [8] = 11 }, { [2] = 10, [4] = 23, [8] = 52 }
    local bits, point = exponents[length], mantissas[length]
    local high, sign = s:byte(position), ""
    if high >= 128 then sign = "-" end
    -- The exponent ends within the first two bytes, whatever the width.
    local scale = 2 ^ (15 - bits)
    local first = big(s, position, 2) % 32768
    local exponent = math.floor(first / scale)
    local mantissa = first % scale
    for i = position + 2, position + length - 1 do
        mantissa = mantissa * 256 + s:byte(i)
    end
    local bias = 2 ^ (bits - 1) - 1
    if exponent == 2 ^ bits - 1 then
        if mantissa ~= 0 then return "NaN" end
        return sign .. "Infinity"
    end
    local value
    if exponent == 0 then
        value = mantissa * 2 ^ (1 - bias - point)
    else
        value = (mantissa + 2 ^ point) * 2 ^ (exponent - bias - point)
    end
    -- As many digits as the width has.
    local text
    for digits = ({ [2] = 4, [4] = 7, [8] = 15 })[length], ({ [2] = 5, [4] = 7, [8] = 17 })[length] do
        text = string.format("%." .. digits .. "g", value)
        if tonumber(text) == value then break end
    end
    return sign .. (text:find("[.e]") and text or text .. ".0")
end

local function is_utf8(s)
    local i = 1
    while i <= #s do
        local byte = s:byte(i)
        local more, low, value
        if byte < 0x80 then more, low, value = 0, 0, byte
        elseif byte >= 0xC2 and byte < 0xE0 then more, low, value = 1, 0x80, byte - 0xC0
        elseif byte >= 0xE0 and byte < 0xF0 then more, low, value = 2, 0x800, byte - 0xE0
        elseif byte >= 0xF0 and byte < 0xF5 then more, low, value = 3, 0x10000, byte - 0xF0
        else return false end
        for j = i + 1, i + more do
            local next = s:byte(j)
            if next == nil or next < 0x80 or next > 0xBF then return false end
            value = value * 64 + next - 0x80
        end
        if value < low or value > 0x10FFFF or (value >= 0xD800 and value < 0xE000) then return false end
        i = i + more + 1
    end
    return true
end

local function quoted(s)
    return '"' .. s:gsub('[%c"\\]', function(char) return string.format("\\u%04x", char:byte()) end) .. '"'
end

local function hex(s)
    return (s:gsub(".", function(char) return string.format("%02x", char:byte()) end))
end

-- One item at `position`: {text, next position, elements (of an array: {text, from, to})}. `budget` counts items.
local function cbor(s, position, depth, budget)
    local initial = s:byte(position)
    if initial == nil or budget[1] == 0 then return nil end
    budget[1] = budget[1] - 1
    local major, info = math.floor(initial / 32), initial % 32
    local start = position + 1
    local length = ({ [24] = 1, [25] = 2, [26] = 4, [27] = 8 })[info] or 0
    if info > 27 then return nil end
    if major == 7 then
        if info >= 25 then
            if start + length - 1 > #s then return nil end
            return { text = float(s, start, length), next = start + length }
        end
        local simple = ({ [20] = "false", [21] = "true", [22] = "null" })[info]
        return simple and { text = simple, next = start }
    end
    local text, value = tostring(info), info
    if length > 0 then
        text, value = unsigned(s, start, length)
        if text == nil or value < ({ 24, 256, [4] = 65536, [8] = 4294967296 })[length] then return nil end
        start = start + length
    end
    if major == 0 then return { text = text, next = start } end
    if major == 1 then
        return { text = length == 0 and integer(-1 - info) or negative(s, start - length, length, value), next = start }
    end
    if major == 2 or major == 3 then
        if start + value - 1 > #s then return nil end
        local content = s:sub(start, start + value - 1)
        if major == 2 then return { text = "h'" .. hex(content) .. "'", next = start + value } end
        if not is_utf8(content) then return nil end
        return { text = quoted(content), next = start + value }
    end
    if major == 6 or depth == 0 or value > MAX_ITEMS then return nil end
    local parts, found, keys = {}, {}, {}
    for _ = 1, value do
        local key = ""
        if major == 5 then
            local kind = s:byte(start) and math.floor(s:byte(start) / 32)
            if kind ~= 0 and kind ~= 1 and kind ~= 3 then return nil end
            local name = cbor(s, start, depth - 1, budget)
            if name == nil or keys[name.text] then return nil end
            keys[name.text] = true
            key, start = name.text .. ": ", name.next
        end
        local element = cbor(s, start, depth - 1, budget)
        if element == nil then return nil end
        table.insert(found, { text = element.text, from = start, to = element.next - 1 })
        table.insert(parts, key .. element.text)
        start = element.next
    end
    local open, close = "[", "]"
    if major == 5 then open, close = "{", "}" end
    return { text = open .. table.concat(parts, ", ") .. close, next = start, elements = major == 4 and found or nil }
end

local function whole_item(s, position)
    return cbor(s, position, MAX_DEPTH, { MAX_ITEMS })
end

-- Records: a list of {kind, from, to, name, shown = {field, from, to, value}...}, and whether all of it fits. --------

local function nearest(low, reference)
    local value = reference + ((low - reference + 128) % 256) - 128
    if value < 0 then value = value + 256 end
    return value
end

local function reading(s, position, state, in_message)
    local kind = s:byte(position)
    local out = { kind = kind, from = position, name = "READING", shown = {} }
    local function show(field, from, to, value) table.insert(out.shown, { field, from, to, value }) end
    local channel, at = math.floor(kind / 8) % 16, position + 1
    if channel == 15 then
        channel = s:byte(at)
        if channel == nil then return nil end
        at = at + 1
        show(f.channel, at - 1, at - 1, channel)
    else
        show(f.channel, position, position, channel)
    end
    local is_confirmed = kind % 2 == 1
    show(f.confirmed, position, position, is_confirmed)
    if is_confirmed then
        if state.next == nil and not state.follows then
            if in_message then return nil end
            local low = s:byte(at)
            if low == nil then return nil end
            at = at + 1
            show(f.sequence_low, at - 1, at - 1, low)
            if state.reference ~= nil then state.next = nearest(low, state.reference) end
            state.follows = true
        end
        if state.next ~= nil then
            show(f.sequence, position, position, state.next)
            out.sequence = state.next
            state.next = state.next + 1
        end
    end
    local form = math.floor(kind / 2) % 4
    local moment = {}
    if form == 0 then
        moment.age = 0
        show(f.age, position, position, 0)
    elseif form == 1 then
        local age, next = varint(s, at)
        if age == nil then return nil end
        show(f.age, at, next - 1, age)
        moment.age, at = age, next
    elseif form == 2 then
        local time = big(s, at, 6)
        if time == nil then return nil end
        show(f.time_ms, at, at + 5, time)
        moment.time, at = time, at + 6
    else
        local after, next = varint(s, at)
        if after == nil or state.previous == nil then return nil end
        show(f.after, at, next - 1, after)
        if state.previous.time ~= nil then
            moment.time = state.previous.time + after
            show(f.time_ms, at, next - 1, moment.time)
        else
            moment.age = state.previous.age - after
            if moment.age < 0 then return nil end
            show(f.age, at, next - 1, moment.age)
        end
        at = next
    end
    local value = whole_item(s, at)
    if value == nil or value.next - at > MAX_VALUE then return nil end
    show(f.value, at, value.next - 1, value.text)
    show(f.cbor, at, value.next - 1)
    state.previous = moment
    out.to = value.next - 1
    out.text = string.format("%d = %s", channel, value.text)
    if out.sequence then out.text = out.text .. " (#" .. integer(out.sequence) .. ")" end
    return out
end

local function compact(s, position, state, in_message)
    local kind = s:byte(position)
    local out = { kind = kind, from = position, name = KINDS[kind], shown = {} }
    local at = position + 1
    local function show(field, length, value)
        if at + length - 1 > #s then return nil end
        table.insert(out.shown, { field, at, at + length - 1, value })
        at = at + length
        return big(s, at - length, math.min(length, 6)) or 0
    end
    local function number(field, value_of)
        local value, next = varint(s, at)
        if value == nil then return nil end
        table.insert(out.shown, { field, at, next - 1, value_of and value_of(value) or value })
        at = next
        return value
    end
    if kind == 0x40 then
        if show(f.highest, 1) == nil or show(f.bitmap, 1) == nil then return nil end
    elseif kind == 0x41 and not in_message then
        out.message, out.index, out.total = show(f.message, 1), show(f.index, 1), show(f.total, 2)
        if out.total == nil then return nil end
        out.data = s:sub(at)
        if #out.data > 0 then show(f.data, #out.data) end
        out.text = string.format("%d: %d of %d bytes", out.message, out.index, out.total)
    elseif kind == 0x42 then
        local flags = s:byte(at)
        if flags == nil or flags > 1 then return nil end
        show(f.doubtful, 1, flags == 1)
        if show(f.time_ms, 6) == nil then return nil end
    elseif kind == 0x44 then
        local value = number(f.seconds, function(v) return math.floor(v / 2) end)
        if value == nil then return nil end
        table.insert(out.shown, { f.listens, position + 1, at - 1, value % 2 == 1 })
        out.text = integer(math.floor(value / 2)) .. " s"
    elseif kind == 0x45 or kind == 0x4C then
        if number(f.seconds) == nil then return nil end
    elseif kind == 0x46 then
        if show(f.sequence, 4) == nil or number(f.lost) == nil then return nil end
    elseif kind == 0x47 then
        local sequence = show(f.sequence, 4)
        if sequence == nil then return nil end
        state.next, state.follows = sequence, true
    elseif kind == 0x48 then
        if show(f.counter_floor, 4) == nil then return nil end
    elseif kind == 0x4B then
        local waiting = number(f.pending)
        if waiting == nil then return nil end
        out.text = integer(waiting)
    elseif kind == 0x4D then
        if show(f.message, 1) == nil then return nil end
    elseif kind ~= 0x43 and kind ~= 0x49 and kind ~= 0x4A then
        return nil
    end
    out.to = at - 1
    return out
end

local function extension(s, position)
    local kind = s:byte(position)
    local item = whole_item(s, position + 1)
    if item == nil then return nil end
    local out = { kind = kind, from = position, to = item.next - 1, name = KINDS[kind] or "EXTENSION", text = item.text }
    out.shown = { { f.item, position + 1, item.next - 1, item.text }, { f.cbor, position + 1, item.next - 1 } }
    out.is_unknown = KINDS[kind] == nil
    for i, element in ipairs(ELEMENTS[kind] and item.elements or {}) do
        local name = ELEMENTS[kind][i]
        if name ~= nil then table.insert(out.shown, { elements[name], element.from, element.to, element.text }) end
    end
    return out
end

local function records(s, reference, in_message)
    local found, position, state = {}, 1, { reference = reference }
    while position <= #s do
        local kind, record = s:byte(position), nil
        if kind >= 0x80 then
            record = reading(s, position, state, in_message)
        elseif kind >= 0x40 then
            record = compact(s, position, state, in_message)
        elseif kind > 0 then
            record = extension(s, position)
        end
        if record == nil then return found, position end
        table.insert(found, record)
        position = record.to + 1
    end
    return found, nil
end

-- Messages of several fragments ---------------------------------------------------------------------------------------

local open_messages = {} -- by device and direction: list of {message, total, count, parts}, the oldest first
local finished = {} -- by number of the packet and place in it: the data, for when Wireshark looks again

function petiole.init()
    open_messages, finished = {}, {}
end

-- nil, or why the fragment is malformed; and the whole message where this fragment was the last of it.
local function collect(key, fragment)
    local last = math.floor((fragment.total - 1) / FRAGMENT_SIZE)
    if fragment.total == 0 or fragment.total > MAX_MESSAGE or fragment.index > last then return "malformed_fragment" end
    local length = fragment.index < last and FRAGMENT_SIZE or fragment.total - last * FRAGMENT_SIZE
    if #fragment.data ~= length then return "malformed_fragment" end
    local messages = open_messages[key] or {}
    open_messages[key] = messages
    local open, place
    for i, each in ipairs(messages) do
        if each.message == fragment.message then open, place = each, i end
    end
    if open == nil then
        open = { message = fragment.message, total = fragment.total, count = 0, parts = {} }
        table.insert(messages, open)
        place = #messages
        if #messages > MAX_OPEN then
            table.remove(messages, 1)
            place = place - 1
        end
    elseif open.total ~= fragment.total then
        return "malformed_fragment"
    end
    if open.parts[fragment.index] == nil then
        open.parts[fragment.index] = fragment.data
        open.count = open.count + 1
    end
    if open.count <= last then return nil end
    table.remove(messages, place)
    local parts = {}
    for i = 0, last do parts[i + 1] = open.parts[i] end
    return nil, table.concat(parts)
end

-- The tree ------------------------------------------------------------------------------------------------------------

local function malformed(tree, range, reason)
    local item = tree:add(f.malformed, range, reason)
    item:set_generated()
    item:add_proto_expert_info(e_malformed, reason)
end

local function add_time(tree, range, ms)
    tree:add(f.time_ms, range, UInt64.new(ms % 4294967296, math.floor(ms / 4294967296)))
    tree:add(f.time, range, NSTime.new(math.floor(ms / 1000), (ms % 1000) * 1000000)):set_generated()
end

local add_records

local function add_fragment(tree, root, range, record, context)
    local place = context.number .. ":" .. record.from
    if not context.visited then
        local reason, whole = collect(context.key, record)
        finished[place] = { reason = reason, whole = whole }
    end
    local known = finished[place] or {}
    if known.reason then malformed(tree, range, known.reason) end
    if known.whole then
        local tvb = ByteArray.new(hex(known.whole)):tvb("Message " .. record.message)
        local branch = root:add(f.whole, tvb:range())
        branch:set_text(string.format("Message %d: %d bytes", record.message, #known.whole))
        add_records(branch, tvb:range(), known.whole, nil, true, context)
    end
end

function add_records(tree, range, s, reference, in_message, context)
    local found, wrong = records(s, reference, in_message)
    for _, record in ipairs(found) do
        local part = range:range(record.from - 1, record.to - record.from + 1)
        local label = record.name .. (record.text and " " .. record.text or "")
        local branch = tree:add(f.record, range:range(record.from - 1, 1), record.kind)
        branch:set_text(label)
        for _, shown in ipairs(record.shown) do
            local field, from, to, value = shown[1], shown[2], shown[3], shown[4]
            local where = range:range(from - 1, to - from + 1)
            if field == f.time_ms then
                add_time(branch, where, value or big(s, from, 6))
            elseif value ~= nil then
                branch:add(field, where, value)
            else
                branch:add(field, where)
            end
        end
        if record.is_unknown then branch:add_proto_expert_info(e_unknown) end
        if record.kind == 0x41 then add_fragment(branch, tree, part, record, context) end
        table.insert(context.labels, record.name == "READING" and label:sub(9) or record.name)
    end
    if wrong ~= nil then
        malformed(tree, range:range(wrong - 1), "malformed_record")
        table.insert(context.labels, "malformed")
    end
end

-- The body of each type; `at` counts from 0.
local function add_body(kind, header, frame, at, tree, context)
    local length = frame:len()
    if kind == 1 then
        local width = header % 16 >= 8 and 4 or 1
        if width == 4 then
            tree:add(f.counter, frame:range(at, 4))
            context.counter = frame:range(at, 4):uint()
        else
            tree:add(f.short_counter, frame:range(at, 1))
            if context.counter then
                tree:add(f.counter, frame:range(at, 1), context.counter):set_generated()
            else
                context.counter = frame:range(at, 1):uint()
            end
        end
        at = at + width
        local tag = petiole.prefs.tag
        if context.plaintext then tag = length - at - context.plaintext:len() end
        tag = math.max(0, math.min(tag, length - at))
        if length - at - tag > 0 then tree:add(f.ciphertext, frame:range(at, length - at - tag)) end
        if tag > 0 then tree:add(f.tag, frame:range(length - tag, tag)) end
    elseif kind == 2 then
        tree:add(f.acked, frame:range(0, 1), header % 8)
        tree:add(f.tag, frame:range(at))
    elseif kind == 3 then
        tree:add(f.version, frame:range(0, 1), header % 8)
        tree:add(f.full, frame:range(0, 1), math.floor(header / 16) % 2 == 1)
        tree:add(f.device_id, frame:range(at, 3))
        tree:add(f.random, frame:range(at + 3, 4))
        tree:add(f.boot, frame:range(at + 7, 1))
        tree:add(f.ciphertext, frame:range(at + 8, length - at - 8 - JOIN_TAG))
        tree:add(f.tag, frame:range(length - JOIN_TAG, JOIN_TAG))
    elseif kind == 4 then
        tree:add(f.version, frame:range(0, 1), header % 8)
        tree:add(f.full, frame:range(0, 1), math.floor(header / 16) % 2 == 1)
        tree:add(f.doubtful, frame:range(0, 1), math.floor(header / 8) % 2 == 1)
        add_time(tree, frame:range(at, 6), big(frame:raw(at, 6), 1, 6))
        tree:add(f.random, frame:range(at + 6, 1))
        tree:add(f.ciphertext, frame:range(at + 7, length - at - 7 - TAG))
        tree:add(f.tag, frame:range(length - TAG, TAG))
    elseif kind == 5 then
        tree:add(f.reason, frame:range(0, 1), header % 16)
        tree:add(f.echo, frame:range(length - 4, 4))
    end
end

-- The checks of section 3, in their order; the reason, or type, header, address and where the body begins.
local function split(frame)
    local length = frame:len()
    if length == 0 then return "empty" end
    if length > MAX_FRAME then return "oversize" end
    local header = frame:range(0, 1):uint()
    local kind = math.floor(header / 32)
    if TYPES[kind] == nil then return "unknown_type" end
    if (kind == 1 and header % 8 ~= 0) or ((kind == 2 or kind == 3) and math.floor(header / 8) % 2 ~= 0) then
        return "reserved_bits"
    end
    local at, address, width = 1, nil, 0
    if (kind == 1 or kind == 2 or kind == 5) and math.floor(header / 16) % 2 == 1 then
        if length < 2 then return "short" end
        address, width = frame:range(1, 1):uint(), 1
        if address >= 128 then
            if length < 3 then return "short" end
            address, width = frame:range(1, 2):uint() % 32768, 2
            if address < 128 then return "address_form" end
        end
        at = at + width
    end
    local shortest = SHORTEST[kind]
    if kind == 1 and header % 16 >= 8 then shortest = shortest + 3 end
    if length - at < shortest then return "short" end
    return nil, kind, header, address, width, at
end

local function dissect_frame(frame, tree, pinfo, context)
    local reason, kind, header, address, width, at = split(frame)
    if reason then
        if frame:len() > 0 then malformed(tree, frame:range(), reason) else malformed(tree, context.pseudo, reason) end
        return reason, nil
    end
    local branch = tree:add(f.frame, frame:range())
    branch:set_text(string.format("%s, %d bytes", TYPES[kind], frame:len()))
    branch:add(f.type, frame:range(0, 1), kind)
    if address then branch:add(f.address, frame:range(at - width, width), address) end
    add_body(kind, header, frame, at, branch, context)
    return TYPES[kind], kind
end

function petiole.dissector(buffer, pinfo, root)
    pinfo.cols.protocol = "petiole"
    local tree = root:add(petiole, buffer())
    local length = buffer:len()
    local function short()
        malformed(tree, buffer(), "pseudo_header")
        pinfo.cols.info = "no header of petiole tap"
        return length
    end
    if length < 14 or buffer(0, 1):uint() ~= 1 then return short() end
    local flags, at = buffer(1, 1):uint(), 10
    local context = { labels = {}, number = pinfo.number, visited = pinfo.visited }
    local is_down = flags % 2 == 1
    if math.floor(flags / 4) % 2 == 1 then context.counter = buffer(2, 4):uint() end
    local reference = math.floor(flags / 8) % 2 == 1 and buffer(6, 4):uint() or nil
    local texts = {}
    for i = 1, 2 do
        local size = buffer(at, 1):uint()
        if at + 1 + size + (i == 1 and 1 or 2) > length then return short() end
        texts[i] = size > 0 and buffer(at + 1, size) or false
        at = at + 1 + size
    end
    local size = buffer(at, 2):uint()
    if at + 2 + size > length then return short() end
    local has_plaintext = math.floor(flags / 2) % 2 == 1
    if has_plaintext and size > 0 then context.plaintext = buffer(at + 2, size) end
    context.pseudo = buffer(0, at + 2)
    local direction = is_down and "down" or "up"
    tree:add(f.direction, buffer(1, 1), direction)
    local name = texts[1] and texts[1]:string() or "?"
    if texts[1] then tree:add(f.device, texts[1]) end
    context.key = name .. " " .. direction
    local frame = at + 2 + size < length and buffer(at + 2 + size):tvb() or ByteArray.new():tvb("empty frame")
    if has_plaintext and size == 0 then
        -- Known to be empty: then all behind the counter is the tag.
        context.plaintext = { len = function() return 0 end }
    end
    local title, kind = dissect_frame(frame, tree, pinfo, context)
    if has_plaintext and size > 0 then
        local branch = tree:add(f.plaintext, context.plaintext)
        branch:set_text(string.format("Records, %d bytes", size))
        add_records(branch, context.plaintext, context.plaintext:raw(), reference, false, context)
    end
    if texts[2] then
        tree:add(f.dropped, texts[2]):add_proto_expert_info(e_dropped, "dropped: " .. texts[2]:string())
        table.insert(context.labels, 1, "dropped: " .. texts[2]:string())
    end
    pinfo.cols.src = is_down and "gateway" or name
    pinfo.cols.dst = is_down and name or "gateway"
    local counted = kind == 1 and context.counter and " " .. integer(context.counter) or ""
    pinfo.cols.info = title .. counted .. (#context.labels > 0 and ": " .. table.concat(context.labels, ", ") or "")
    return length
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, petiole)
