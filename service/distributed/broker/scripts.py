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

from service.distributed.broker.client import AsyncRedis, SyncRedis


@dataclass(frozen=True, slots=True)
class Script:
    """Lua text; `sha` names it to the server."""

    text: str

    @property
    def sha(self) -> str:
        """Return the SHA-1 by which EVALSHA calls the script."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


async def call(client: AsyncRedis, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
    """Run a script; send its text where the server does not know it yet (new, restarted, failed over)."""
    try:
        return await client.evalsha(script.sha, len(keys), *keys, *args)
    except redis.exceptions.NoScriptError:
        return await client.eval(script.text, len(keys), *keys, *args)


def call_sync(client: SyncRedis, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
    """Run a script as `call` does, from a thread."""
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

#: What is counted, beside the `load` of c8bbcd6 and before: releases that know none of it may be at work on the same
#: queue. What they ended goes on being counted here until the queue is empty, and never for more than the queue holds.
COUNTS = """
local function add(key,field,by) if by~=0 then redis.call('HINCRBY',key,field,by) end end
-- Items and bytes of jobs, no more than there are of anything.
local function clamp(load,items,bytes,clients)
  local c=redis.call('HMGET',load,'jobs','jobbytes')
  local jobs,size=tonumber(c[1] or 0),tonumber(c[2] or 0)
  local j,b=math.max(0,math.min(jobs,items)),math.max(0,math.min(size,bytes))
  if items<=0 then j=0 end
  if j==0 then b=0 redis.call('UNLINK',clients) end
  if j~=jobs or b~=size then redis.call('HSET',load,'jobs',j,'jobbytes',b) end
  return j,b
end
-- The bytes of one job's results, or of the room they may need: what was said of it before is replaced.
local function hold(results,job,size)
  add(results,'sum',size-tonumber(redis.call('HGET',results,job) or 0))
  if size>0 then redis.call('HSET',results,job,size) else redis.call('HDEL',results,job) end
  if redis.call('HLEN',results)==1 then redis.call('UNLINK',results) end
end
-- Results whose time is over are not counted any more.
local function sweep(results,kept,t)
  for _,job in ipairs(redis.call('ZRANGEBYSCORE',kept,'-inf',t,'LIMIT',0,100)) do
    hold(results,job,0)
    redis.call('ZREM',kept,job)
  end
end
"""

#: Checks every limit and accepts all items of a job, or none.
#: Calls and jobs are counted apart: `jobs` and `jobbytes` of the load are those of jobs, the rest is calls'. Releases
#: before them count neither, so both are set right wherever they must be wrong (see `clamp`).
#: KEYS job payload load stream buckets wake clients results kept
#: ARGV 1 group 2 most items 3 most bytes 4 items 5 bytes 6 work of one item, us 7 deadline, ms from now or 0
#:      8 order, ms from now 9 job 10 payload token 11 front end or '' 12 ms kept once settled 13 fingerprint 14 client
#:      15 what to do 16 webhook 17 workers 18 ms kept while waiting (0: until settled) 19 most bytes of jobs
#:      20 bytes its results may take 21 most bytes of results 22 most items of one client's jobs, or 0
#: -> {1, stream id} accepted · {0, client, fingerprint} there already · {-1|-2, work us} full in items|bytes
#:    · {-3, work us} its deadline cannot be met · {-4} the upload is gone · {-5} its client has as much as it may
#:    · {-6, bytes} so much room for results is missing
SUBMIT = Script(
    FIELDS
    + COUNTS
    + """
local known=record(KEYS[1])
if known then return {0,known['c'],known['fp']} end
local load=redis.call('HMGET',KEYS[3],'items','bytes','work','live')
local items,bytes,work=tonumber(load[1] or 0),tonumber(load[2] or 0),tonumber(load[3] or 0)
local n,size,each=tonumber(ARGV[4]),tonumber(ARGV[5]),tonumber(ARGV[6])
local t,call=now(),ARGV[11]~=''
local jobs,jobbytes=clamp(KEYS[3],items,bytes,KEYS[7])
if (call and items-jobs or jobs)+n>tonumber(ARGV[2]) then return {-1,work} end
if bytes+size>tonumber(ARGV[3]) or (not call and jobbytes+size>tonumber(ARGV[19])) then return {-2,work} end
if not call then
  local mine=math.min(jobs,tonumber(redis.call('HGET',KEYS[7],ARGV[14]) or 0))
  if tonumber(ARGV[22])>0 and ARGV[14]~='' and mine+n>tonumber(ARGV[22]) then return {-5} end
  sweep(KEYS[8],KEYS[9],t)
  local missing=tonumber(redis.call('HGET',KEYS[8],'sum') or 0)+tonumber(ARGV[20])-tonumber(ARGV[21])
  if missing>0 then return {-6,missing} end
end
local left=tonumber(ARGV[7])
-- Calls pass jobs, so only the work of calls stands between a call and its deadline.
local live=tonumber(load[4] or 0)
-- By prediction only behind others: where nothing waits, a wrong price would refuse for ever and never be measured.
if left>0 and live>0 and (live+each*n)/tonumber(ARGV[17])>left*1000 then return {-3,live} end
if redis.call('EXISTS',KEYS[2])==0 then return {-4} end
local deadline=0
if left>0 then deadline=t+left end
local first
if redis.call('EXISTS',KEYS[4])==0 then redis.call('XGROUP','CREATE',KEYS[4],ARGV[1],'0','MKSTREAM') end
redis.call('SADD',KEYS[5],KEYS[4])
for k=0,n-1 do
  local share=math.floor(size/n)
  if k==0 then share=size-share*(n-1) end
  local id=redis.call('XADD',KEYS[4],'*','j',ARGV[9],'k',k,'p',ARGV[10],'f',ARGV[11],'d',t+tonumber(ARGV[8]),
    'x',deadline,'b',share,'w',each,'t',ARGV[12],'q',call and '' or '1','c',ARGV[14])
  first=first or id
end
-- What is left of a record that lost fields; whatever of its items still runs is refused by SETTLE.
redis.call('UNLINK',KEYS[1])
redis.call('HSET',KEYS[1],'s','queued','n',n,'done',0,'c',ARGV[14],'fp',ARGV[13],'m',ARGV[15],'p',ARGV[10],
  'f',ARGV[11],'hook',ARGV[16],'at',t,'st',KEYS[4],'id',first,'room',ARGV[20])
if tonumber(ARGV[18])>0 then redis.call('PEXPIRE',KEYS[1],ARGV[18]) redis.call('PEXPIRE',KEYS[2],ARGV[18])
else redis.call('PERSIST',KEYS[2]) end
redis.call('HINCRBY',KEYS[3],'items',n)
redis.call('HINCRBY',KEYS[3],'bytes',size)
redis.call('HINCRBY',KEYS[3],'work',each*n)
if call then redis.call('HINCRBY',KEYS[3],'live',each*n)
else
  redis.call('HINCRBY',KEYS[3],'jobs',n)
  redis.call('HINCRBY',KEYS[3],'jobbytes',size)
  redis.call('HINCRBY',KEYS[7],ARGV[14],n)
  hold(KEYS[8],ARGV[9],tonumber(ARGV[20]))
end
redis.call('LPUSH',KEYS[6],'1')
redis.call('LTRIM',KEYS[6],0,63)
return {1,first}
"""
)

#: A batch of one bucket: the stream whose next item's deadline is earliest, filled from the bucket's other classes.
#: KEYS streams... ARGV group worker most pixels (of all that is claimed; one item may have more)
#: -> {ms now, {{stream, {{id, fields}...}}...}}
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
local rows,columns=string.match(bucket,'^(%d+)x(%d+)')
if ARGV[4] and rows then room=math.min(room,math.max(1,math.floor(tonumber(ARGV[4])/(rows*columns)))) end
for _,head in ipairs(heads) do
  if room>0 and string.match(head[2],'[^:]+$')==bucket then
    local got=redis.call('XREADGROUP','GROUP',ARGV[1],ARGV[2],'COUNT',room,'STREAMS',head[2],'>')
    if got then taken[#taken+1]={head[2],got[1][2]} room=room-#got[1][2] end
  end
end
return {t,taken}
"""
)

#: Whether a claimed item is to be run: KEYS job front | ARGV k waits payload
#: -> {verdict, what to do, devices lost alone}
#: run · gone (withdrawn, failed elsewhere or expired) · done (its answer is there) · orphan (who asked has died)
#: · lost (what to do with it is gone)
BEGIN = Script(
    """
local job=redis.call('HMGET',KEYS[1],'s','m','d'..ARGV[1],'p','l'..ARGV[1])
-- Of a record that was lost; the job was accepted anew under the same id.
if ARGV[3] and job[4] and job[4]~=ARGV[3] then return {'gone'} end
if not job[1] or (job[1]~='queued' and job[1]~='running') then return {'gone'} end
if job[3] then return {'done'} end
if ARGV[2]=='1' then
  if redis.call('EXISTS',KEYS[2])==0 then return {'orphan'} end
end
if not job[2] then return {'lost'} end
if ARGV[2]~='1' and job[1]=='queued' then redis.pcall('HSET',KEYS[1],'s','running') end
return {'run',job[2],tonumber(job[5] or 0)}
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

#: Gives an item up for others to take at once: KEYS stream wake job | ARGV group id worker lease_ms counts k -> 1|0
#: counts 0: this delivery is not held against the item (the worker leaves; the item did nothing).
#: k not '': a device was lost while item k ran alone, which is noted with its job.
HAND_BACK = Script(
    FIELDS
    + """
local p=pending(KEYS[1],ARGV[1],ARGV[2])
if not p or p[2]~=ARGV[3] then return 0 end
local n=p[4]
if ARGV[5]=='0' then n=math.max(0,n-1) end
redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[3],0,ARGV[2],'IDLE',ARGV[4],'RETRYCOUNT',n,'JUSTID')
if ARGV[6]~='' and redis.call('EXISTS',KEYS[3])==1 then redis.call('HINCRBY',KEYS[3],'l'..ARGV[6],1) end
redis.call('LPUSH',KEYS[2],'back')
redis.call('LTRIM',KEYS[2],0,63)
return 1
"""
)

#: Stores a value even when memory is full: KEYS place | ARGV value ttl_ms. For an attempt, which makes room by the
#: finish that follows, and for a sign of life.
KEEP = Script("redis.call('UNLINK',KEYS[1]) redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1")

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
