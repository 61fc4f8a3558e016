"""The Lua that must not be interrupted: one script for each move of an item, and the client that calls them.

Written so that a full server can still drain. Redis refuses a script's growing commands (HSET, SET, XADD) when memory
is full *unless the script has written before*; every script that ends or withdraws work therefore begins with a write
that needs no memory (UNLINK, PEXPIRE). That holds on Redis 6.2 and 7 and on Valkey 8 and 9 alike, so none needs the
`#!lua flags=allow-oom` that 6.2 does not know. Scripts touch only the keys they are given (Cluster).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from service.jobs.connect import AsyncRedis, SyncRedis


@dataclass(frozen=True, slots=True)
class Script:
    """Lua and its name to the server."""

    text: str

    @property
    def sha(self) -> str:
        """What EVALSHA calls it by."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


async def call(client: AsyncRedis, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
    """Runs it; a server that does not know it yet (new, restarted, failed over) is told."""
    try:
        return await client.evalsha(script.sha, len(keys), *keys, *args)
    except redis.exceptions.NoScriptError:
        return await client.eval(script.text, len(keys), *keys, *args)


def call_sync(client: SyncRedis, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
    """The same from a thread."""
    try:
        return client.evalsha(script.sha, len(keys), *keys, *args)
    except redis.exceptions.NoScriptError:
        return client.eval(script.text, len(keys), *keys, *args)


#: Fields that every record of a job or call has until it is gone. One that lacks some is what a server that lost writes
#: left: it is answered as no job, and may be written anew. SUBMIT and SETTLE name the same.
RECORD = frozenset({b"s", b"n", b"done", b"c", b"fp", b"f", b"at"})

#: Functions that scripts begin with.
FIELDS = """
local function fields(list) local map={} for i=1,#list,2 do map[list[i]]=list[i+1] end return map end
local function now() local t=redis.call('TIME') return t[1]*1000+math.floor(t[2]/1000) end
-- Who holds an entry, if anybody: nobody where the stream went with its last item, or its group in a failover.
local function pending(stream,group,id)
  local found=redis.pcall('XPENDING',stream,group,id,id,1)
  if found.err or #found==0 then return nil end
  return found[1]
end
-- A job's record as a map; nil if there is none, or only part of one.
local function record(key)
  local names={'s','n','done','c','fp','f','at','p','hook'}
  local values,map=redis.call('HMGET',key,unpack(names)),{}
  for i,name in ipairs(names) do
    if not values[i] and i<=7 then return nil end
    map[name]=values[i]
  end
  return map
end
"""

#: Checks every limit and accepts all items of a job, or none.
#: KEYS job payload load stream buckets wake
#: ARGV 1 group 2 most items 3 most bytes 4 items 5 bytes 6 work of one item, us 7 deadline, ms from now or 0
#:      8 order, ms from now 9 job 10 payload token 11 front end or '' 12 ms kept once settled 13 fingerprint 14 client
#:      15 what to do 16 webhook 17 workers 18 ms kept while waiting (0: until settled)
#: -> {1, stream id} accepted · {0, client, fingerprint} there already · {-1|-2, work us} full in items|bytes
#:    · {-3, work us} its deadline cannot be met · {-4} the upload is gone
SUBMIT = Script(
    FIELDS
    + """
local known=record(KEYS[1])
if known then return {0,known['c'],known['fp']} end
local load=redis.call('HMGET',KEYS[3],'items','bytes','work','live')
local items,bytes,work=tonumber(load[1] or 0),tonumber(load[2] or 0),tonumber(load[3] or 0)
local n,size,each=tonumber(ARGV[4]),tonumber(ARGV[5]),tonumber(ARGV[6])
if items+n>tonumber(ARGV[2]) then return {-1,work} end
if bytes+size>tonumber(ARGV[3]) then return {-2,work} end
local left=tonumber(ARGV[7])
-- Calls pass jobs, so only the work of calls stands between a call and its deadline.
local live=tonumber(load[4] or 0)
if left>0 and (live+each*n)/tonumber(ARGV[17])>left*1000 then return {-3,live} end
if redis.call('EXISTS',KEYS[2])==0 then return {-4} end
local t=now()
local deadline=0
if left>0 then deadline=t+left end
local first
if redis.call('EXISTS',KEYS[4])==0 then redis.call('XGROUP','CREATE',KEYS[4],ARGV[1],'0','MKSTREAM') end
redis.call('SADD',KEYS[5],KEYS[4])
for k=0,n-1 do
  local share=math.floor(size/n)
  if k==0 then share=size-share*(n-1) end
  local id=redis.call('XADD',KEYS[4],'*','j',ARGV[9],'k',k,'p',ARGV[10],'f',ARGV[11],'d',t+tonumber(ARGV[8]),
    'x',deadline,'b',share,'w',each,'t',ARGV[12])
  first=first or id
end
-- What is left of a record that lost fields; whatever of its items still runs is refused by SETTLE.
redis.call('UNLINK',KEYS[1])
redis.call('HSET',KEYS[1],'s','queued','n',n,'done',0,'c',ARGV[14],'fp',ARGV[13],'m',ARGV[15],'p',ARGV[10],
  'f',ARGV[11],'hook',ARGV[16],'at',t,'st',KEYS[4],'id',first)
if tonumber(ARGV[18])>0 then redis.call('PEXPIRE',KEYS[1],ARGV[18]) redis.call('PEXPIRE',KEYS[2],ARGV[18])
else redis.call('PERSIST',KEYS[2]) end
redis.call('HINCRBY',KEYS[3],'items',n)
redis.call('HINCRBY',KEYS[3],'bytes',size)
redis.call('HINCRBY',KEYS[3],'work',each*n)
if ARGV[11]~='' then redis.call('HINCRBY',KEYS[3],'live',each*n) end
redis.call('LPUSH',KEYS[6],'1')
redis.call('LTRIM',KEYS[6],0,63)
return {1,first}
"""
)

#: A batch of one bucket: the stream whose next item's deadline is earliest, filled from the bucket's other classes.
#: KEYS streams... ARGV group worker most -> {ms now, {{stream, {{id, fields}...}}...}}
CLAIM = Script(
    FIELDS
    + """
local heads={}
for i,stream in ipairs(KEYS) do
  if redis.call('EXISTS',stream)==1 then
    local last
    for _,g in ipairs(redis.call('XINFO','GROUPS',stream)) do
      g=fields(g)
      if g['name']==ARGV[1] then last=g['last-delivered-id'] end
    end
    -- A server that lost its tail in a failover may have the stream and not the group. 0, not $: nothing is skipped.
    if not last then redis.call('XGROUP','CREATE',stream,ARGV[1],'0') last='0-0' end
    local next=redis.call('XRANGE',stream,'('..last,'+','COUNT',1)
    if #next>0 then heads[#heads+1]={tonumber(fields(next[1][2])['d']) or 0,stream} end
  end
end
local t=now()
if #heads==0 then return {t,{}} end
table.sort(heads,function(a,b) if a[1]==b[1] then return a[2]<b[2] end return a[1]<b[1] end)
local bucket=string.match(heads[1][2],'[^:]+$')
local room,taken=tonumber(ARGV[3]),{}
for _,head in ipairs(heads) do
  if room>0 and string.match(head[2],'[^:]+$')==bucket then
    local got=redis.call('XREADGROUP','GROUP',ARGV[1],ARGV[2],'COUNT',room,'STREAMS',head[2],'>')
    if got then taken[#taken+1]={head[2],got[1][2]} room=room-#got[1][2] end
  end
end
return {t,taken}
"""
)

#: Whether a claimed item is to be run: KEYS job front | ARGV k waits payload -> {verdict, what to do}
#: run · gone (withdrawn, failed elsewhere or expired) · done (its answer is there) · orphan (who asked has died)
#: · lost (what to do with it is gone)
BEGIN = Script(
    """
local job=redis.call('HMGET',KEYS[1],'s','m','d'..ARGV[1],'p')
-- Of a record that was lost; the job was accepted anew under the same id.
if ARGV[3] and job[4] and job[4]~=ARGV[3] then return {'gone'} end
if not job[1] or (job[1]~='queued' and job[1]~='running') then return {'gone'} end
if job[3] then return {'done'} end
if ARGV[2]=='1' then
  if redis.call('EXISTS',KEYS[2])==0 then return {'orphan'} end
end
if not job[2] then return {'lost'} end
if ARGV[2]~='1' and job[1]=='queued' then redis.pcall('HSET',KEYS[1],'s','running') end
return {'run',job[2]}
"""
)

#: Renews a lease if it is still the caller's: KEYS stream | ARGV group id worker -> 1|0
RENEW = Script(
    FIELDS
    + """
local p=pending(KEYS[1],ARGV[1],ARGV[2])
if not p or p[2]~=ARGV[3] then return 0 end
redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[3],0,ARGV[2],'JUSTID')
return 1
"""
)

#: Gives an item up for others to take at once: KEYS stream wake | ARGV group id worker lease_ms counts -> 1|0
#: counts 0: this delivery is not held against the item (the worker leaves; the item did nothing).
HAND_BACK = Script(
    FIELDS
    + """
local p=pending(KEYS[1],ARGV[1],ARGV[2])
if not p or p[2]~=ARGV[3] then return 0 end
local n=p[4]
if ARGV[5]=='0' then n=math.max(0,n-1) end
redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[3],0,ARGV[2],'IDLE',ARGV[4],'RETRYCOUNT',n,'JUSTID')
redis.call('LPUSH',KEYS[2],'back')
redis.call('LTRIM',KEYS[2],0,63)
return 1
"""
)

#: Stores a value even when memory is full: KEYS place | ARGV value ttl_ms. For an attempt, which makes room by the
#: finish that follows, and for a sign of life.
KEEP = Script("redis.call('UNLINK',KEYS[1]) redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1")

#: Ends an item, once, whoever tries: the lease must be the caller's, and the entry must be this job's item (a stream
#: that was emptied and made again within a millisecond repeats its ids).
#: KEYS 1 stream 2 job 3 payload 4 load 5 attempt 6 out 7 reply 8 events 9 buckets 10 hooks 11 dead
#: ARGV 1 group 2 id 3 worker 4 job 5 k 6 how: ok fail drop bury 7 failure 8 lease ms 9 most deliveries 10 dead ttl ms
#: -> {1, state} done · {0} not the caller's · {-1} the attempt is gone
#: `bury` needs no lease of the caller's: a lapsed one and too many deliveries, seen here again in the same step.
SETTLE = Script(
    FIELDS
    + """
local how=ARGV[6]
local entry=redis.call('XRANGE',KEYS[1],ARGV[2],ARGV[2])
if #entry==0 then redis.pcall('XACK',KEYS[1],ARGV[1],ARGV[2]) return {0} end
local e=fields(entry[1][2])
-- What another release left out.
for name,value in pairs({k='0',b='0',w='0',t='86400000',f='',p=''}) do e[name]=e[name] or value end
if e['j']~=ARGV[4] or e['k']~=ARGV[5] then return {0} end
local p=pending(KEYS[1],ARGV[1],ARGV[2])
if not p then return {0} end
local owner,idle,runs=p[2],p[3],p[4]
if owner~=ARGV[3] and not (how=='bury' and idle>=tonumber(ARGV[8]) and runs>=tonumber(ARGV[9])) then return {0} end
if how=='ok' and redis.call('EXISTS',KEYS[5])==0 then return {-1} end
-- Last of all: should anything before it ever fail, the item is still there and its lease runs out.
local function remove()
  redis.call('XACK',KEYS[1],ARGV[1],ARGV[2])
  redis.call('XDEL',KEYS[1],ARGV[2])
  redis.call('HINCRBY',KEYS[4],'items',-1)
  -- 0-x, not -x: Redis writes Lua's minus zero as "-0", which it then refuses to read as an integer.
  redis.call('HINCRBY',KEYS[4],'bytes',0-tonumber(e['b']))
  redis.call('HINCRBY',KEYS[4],'work',0-tonumber(e['w']))
  if e['f']~='' then redis.call('HINCRBY',KEYS[4],'live',0-tonumber(e['w'])) end
  if redis.call('XLEN',KEYS[1])==0 then redis.call('DEL',KEYS[1]) redis.call('SREM',KEYS[9],KEYS[1]) end
end
local rec=record(KEYS[2])
-- Accepted anew under the same id after its record was lost: this is an item of the old one.
if rec and rec['p'] and rec['p']~=e['p'] then rec=nil end
local job={false}
if rec then job={rec['s'],rec['n'],rec['hook'],redis.call('HGET',KEYS[2],'d'..ARGV[5]),rec['c']} end
local open=job[1]=='queued' or job[1]=='running'
if not job[1] then
  redis.call('UNLINK',KEYS[3])
  -- A record that has lost fields cannot end, and has no time of its own.
  if redis.call('TTL',KEYS[2])==-1 and not record(KEYS[2]) then redis.call('PEXPIRE',KEYS[2],e['t']) end
end
if how=='drop' and open and not job[4] then redis.call('UNLINK',KEYS[2],KEYS[3]) remove() return {1,'dropped'} end
if not open or job[4] or how=='drop' then redis.call('UNLINK',KEYS[5]) remove() return {1,job[1] or 'gone'} end
local t,state=now(),'running'
-- The write that a full server grants, so that it grants those that follow.
redis.call('PEXPIRE',KEYS[5],60000)
if how=='ok' then
  redis.call('RENAME',KEYS[5],KEYS[6])
  -- The first of many answers must not expire before the last is there and its own time begins.
  redis.call('PEXPIRE',KEYS[6],(job[2]=='1' and 1 or 2)*tonumber(e['t']))
  redis.call('HSET',KEYS[2],'d'..ARGV[5],'1')
  if redis.call('HINCRBY',KEYS[2],'done',1)==tonumber(job[2]) then state='done' end
else
  state='failed'
  redis.call('HSET',KEYS[2],'e',ARGV[7])
end
if how=='bury' then
  redis.call('XADD',KEYS[11],'MAXLEN','~',1000,'*','j',ARGV[4],'k',ARGV[5],'p',e['p'],'f',e['f'],'st',KEYS[1],
    'b',e['b'],'w',e['w'],'t',e['t'],'runs',runs,'worker',owner,'c',job[5],'e',ARGV[7],'at',t)
end
redis.call('HSET',KEYS[2],'s',state)
if state~='running' then
  redis.call('HSET',KEYS[2],'end',t)
  redis.call('PEXPIRE',KEYS[2],e['t'])
  if how=='bury' and e['f']=='' then
    -- Frames, and the state that a replay needs, stay for whoever inspects the dead letter.
    redis.call('PEXPIRE',KEYS[3],ARGV[10])
    redis.call('PEXPIRE',KEYS[2],math.max(tonumber(ARGV[10]),tonumber(e['t'])))
  else redis.call('UNLINK',KEYS[3]) end
  if job[3] and job[3]~='' then redis.call('ZADD',KEYS[10],t,ARGV[4]) end
end
if e['f']~='' then
  redis.call('XADD',KEYS[7],'*','j',ARGV[4])
  redis.call('PEXPIRE',KEYS[7],600000)
else redis.call('XADD',KEYS[8],'MAXLEN','~',1000,'*','j',ARGV[4]) end
remove()
return {1,state}
"""
)

#: KEYS job payload events cancels | ARGV job ttl_ms tell -> the state it then has, or nil
CANCEL = Script(
    FIELDS
    + """
local state=redis.call('HGET',KEYS[1],'s')
if state~='queued' and state~='running' then return state end
redis.call('UNLINK',KEYS[2])
redis.call('HSET',KEYS[1],'s','cancelled','end',now())
redis.call('PEXPIRE',KEYS[1],ARGV[2])
redis.call('XADD',KEYS[4],'MAXLEN','~',1000,'*','j',ARGV[1])
if ARGV[3]=='1' then redis.call('XADD',KEYS[3],'MAXLEN','~',1000,'*','j',ARGV[1]) end
return 'cancelled'
"""
)

#: KEYS stream load | ARGV group id most -> {items of the stream not yet claimed and ahead of id, work us}
AHEAD = Script(
    FIELDS
    + """
local work=tonumber(redis.call('HGET',KEYS[2],'work') or 0)
if redis.call('EXISTS',KEYS[1])==0 then return {0,work} end
local last='0-0'
for _,g in ipairs(redis.call('XINFO','GROUPS',KEYS[1])) do
  g=fields(g)
  if g['name']==ARGV[1] then last=g['last-delivered-id'] end
end
return {#redis.call('XRANGE',KEYS[1],'('..last,'('..ARGV[2],'COUNT',ARGV[3]),work}
"""
)

#: The next webhook that is due, put off by lease_ms so that its sender may die.
#: KEYS hooks | ARGV lease_ms -> job or nil
HOOK = Script(
    FIELDS
    + """
local t=now()
local due=redis.call('ZRANGEBYSCORE',KEYS[1],'-inf',t,'LIMIT',0,1)
if #due==0 then return nil end
redis.call('ZADD',KEYS[1],t+tonumber(ARGV[1]),due[1])
return due[1]
"""
)

#: Counts a try of a job's webhook, if the job is still there: KEYS job -> tries so far, or 0. HINCRBY alone would make
#: a hash of one field for a job that expired while its receiver was slow, and it would stay for ever.
TRIED = Script(
    """
if redis.call('HEXISTS',KEYS[1],'s')==0 then return 0 end
return redis.call('HINCRBY',KEYS[1],'tries',1)
"""
)
