"""The Lua by which items and jobs end: answered, failed, withdrawn, forgotten, or queued once more.

As all of `service.distributed.broker.scripts`: written so that a full server can still drain, and touching only the
keys given.
"""

from __future__ import annotations

from service.distributed.broker.scripts import COUNTS, FIELDS, Script
from service.distributed.broker.submission import RECORD_BYTES

#: Takes entries out of a stream and out of all that is counted.
_REMOVE = (
    f"\nlocal RECORD={RECORD_BYTES}"
    + """
local function remove(stream,group,id,e,load,buckets,clients)
  redis.call('XACK',stream,group,id)
  redis.call('XDEL',stream,id)
  -- 0-x, not -x: Redis writes Lua's minus zero as "-0", which it then refuses to read as an integer.
  redis.call('HINCRBY',load,'items',-1)
  redis.call('HINCRBY',load,'bytes',0-tonumber(e['b']))
  redis.call('HINCRBY',load,'work',0-tonumber(e['w']))
  if e['f']~='' then redis.call('HINCRBY',load,'live',0-tonumber(e['w'])) end
  if e['q']=='1' then
    redis.call('HINCRBY',load,'jobs',-1)
    redis.call('HINCRBY',load,'jobbytes',0-tonumber(e['b']))
    if redis.call('HINCRBY',clients,e['c'],-1)<=0 then redis.call('HDEL',clients,e['c']) end
  end
  local c=redis.call('HMGET',load,'items','bytes')
  clamp(load,tonumber(c[1] or 0),tonumber(c[2] or 0),clients)
  if redis.call('XLEN',stream)==0 then redis.call('DEL',stream) redis.call('SREM',buckets,stream) end
end
-- All that is left of a job in its stream, claimed or not: its items lie side by side, from `first` on.
local function remove_all(stream,group,first,n,job,load,buckets,clients)
  if not first or not n or redis.call('EXISTS',stream)==0 then return end
  for _,row in ipairs(redis.call('XRANGE',stream,first,'+','COUNT',n)) do
    local e=fields(row[2])
    -- What another release left out.
    for name,value in pairs({b='0',w='0',f='',c=''}) do e[name]=e[name] or value end
    if e['j']==job then remove(stream,group,row[1],e,load,buckets,clients) end
  end
end
"""
)

#: Ends an item, once, whoever tries: the lease must be the caller's, and the entry must be this job's item (a stream
#: that was emptied and made again within a millisecond repeats its ids).
#: KEYS 1 stream 2 job 3 payload 4 load 5 attempt 6 out 7 reply 8 events 9 buckets 10 hooks 11 dead 12 clients
#:      13 results 14 kept
#: ARGV 1 group 2 id 3 worker 4 job 5 k 6 how: ok fail drop bury 7 failure 8 lease ms 9 most deliveries 10 dead ttl ms
#: -> {1, state, items, ms kept} done · {0} not the caller's · {-1} the attempt is gone
#: The other items of a job that fails leave the queue with it. A job that ended has `items` results: its caller
#: gives each the time that they are kept, or removes them.
#: `bury` needs no lease of the caller's: a lapsed one and too many deliveries, seen here again in the same step.
SETTLE = Script(
    FIELDS
    + COUNTS
    + _REMOVE
    + """
local how=ARGV[6]
local entry=redis.call('XRANGE',KEYS[1],ARGV[2],ARGV[2])
if #entry==0 then
  redis.pcall('XACK',KEYS[1],ARGV[1],ARGV[2])
  -- Withdrawn, or failed with another item, while it ran: it left the queue then.
  local state=redis.call('HGET',KEYS[2],'s')
  if (how=='ok' or how=='drop') and (state=='cancelled' or state=='failed') then
    redis.call('UNLINK',KEYS[5])
    return {1,state,0,0}
  end
  return {0}
end
local e=fields(entry[1][2])
-- What another release left out.
for name,value in pairs({k='0',b='0',w='0',t='86400000',f='',p='',q='',c=''}) do e[name]=e[name] or value end
if e['j']~=ARGV[4] or e['k']~=ARGV[5] then return {0} end
local p=pending(KEYS[1],ARGV[1],ARGV[2])
if not p then return {0} end
local owner,idle,runs=p[2],p[3],p[4]
if owner~=ARGV[3] and not (how=='bury' and idle>=tonumber(ARGV[8]) and runs>=tonumber(ARGV[9])) then return {0} end
if how=='ok' and redis.call('EXISTS',KEYS[5])==0 then return {-1} end
-- Last of all: should anything before it ever fail, the item is still there and its lease runs out.
local function leave() remove(KEYS[1],ARGV[1],ARGV[2],e,KEYS[4],KEYS[9],KEYS[12]) end
local rec=record(KEYS[2])
local whole=rec
-- Accepted anew under the same id after its record was lost: this is an item of the old one.
if rec and rec['p'] and rec['p']~=e['p'] then rec=nil end
local job={false}
if rec then
  local more=redis.call('HMGET',KEYS[2],'d'..ARGV[5],'id','bytes')
  job={rec['s'],rec['n'],rec['hook'],more[1],rec['c'],more[2],more[3]}
end
local open=job[1]=='queued' or job[1]=='running'
if not job[1] then
  redis.call('UNLINK',KEYS[3])
  if not whole then
    hold(KEYS[13],ARGV[4],0)
    -- A record that has lost fields cannot end, and has no time of its own.
    if redis.call('TTL',KEYS[2])==-1 then redis.call('PEXPIRE',KEYS[2],e['t']) end
  end
end
if how=='drop' and open and not job[4] then
  redis.call('UNLINK',KEYS[2],KEYS[3])
  hold(KEYS[13],ARGV[4],0)
  leave()
  return {1,'dropped',0,0}
end
-- Withdrawn by an older release, which left its items here and the room for its results taken.
if job[1]=='cancelled' then hold(KEYS[13],ARGV[4],0) end
if not open or job[4] or how=='drop' then redis.call('UNLINK',KEYS[5]) leave() return {1,job[1] or 'gone',0,0} end
local t,state=now(),'running'
-- The write that a full server grants, so that it grants those that follow.
redis.call('PEXPIRE',KEYS[5],60000)
if how=='ok' then
  redis.call('RENAME',KEYS[5],KEYS[6])
  -- The first of many answers must not expire before the last is there and its own time begins.
  redis.call('PEXPIRE',KEYS[6],(job[2]=='1' and 1 or 2)*tonumber(e['t']))
  redis.call('HSET',KEYS[2],'d'..ARGV[5],'1')
  if e['f']=='' then job[7]=redis.call('HINCRBY',KEYS[2],'bytes',redis.call('STRLEN',KEYS[6])) end
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
  if e['f']=='' then
    sweep(KEYS[13],KEYS[14],t)
    -- A state counts too, as RECORD bytes: a queue keeps very many of them.
    hold(KEYS[13],ARGV[4],RECORD+(state=='done' and tonumber(job[7]) or 0))
    redis.call('ZADD',KEYS[14],t+tonumber(redis.call('PTTL',KEYS[2])),ARGV[4])
  end
end
if e['f']~='' then
  redis.call('XADD',KEYS[7],'*','j',ARGV[4])
  redis.call('PEXPIRE',KEYS[7],600000)
else redis.call('XADD',KEYS[8],'MAXLEN','~',1000,'*','j',ARGV[4]) end
leave()
if state=='failed' and tonumber(job[2])>1 then
  remove_all(KEYS[1],ARGV[1],job[6],job[2],ARGV[4],KEYS[4],KEYS[9],KEYS[12])
end
return {1,state,tonumber(job[2]),tonumber(e['t'])}
"""
)

#: Withdraws what is not final yet: its items leave the queue at once, whether or not workers are there.
#: KEYS job payload events cancels stream load buckets clients results kept | ARGV job ttl_ms tell group
#: -> the state it then has, or nil
CANCEL = Script(
    FIELDS
    + COUNTS
    + _REMOVE
    + """
local state=redis.call('HGET',KEYS[1],'s')
if state~='queued' and state~='running' then return state end
redis.call('UNLINK',KEYS[2])
local job,t=redis.call('HMGET',KEYS[1],'st','id','n','f'),now()
redis.call('HSET',KEYS[1],'s','cancelled','end',t)
redis.call('PEXPIRE',KEYS[1],ARGV[2])
if job[1]==KEYS[5] then remove_all(KEYS[5],ARGV[4],job[2],job[3],ARGV[1],KEYS[6],KEYS[7],KEYS[8]) end
if job[4]=='' then
  hold(KEYS[9],ARGV[1],RECORD)
  redis.call('ZADD',KEYS[10],t+tonumber(ARGV[2]),ARGV[1])
end
redis.call('XADD',KEYS[4],'MAXLEN','~',1000,'*','j',ARGV[1])
if ARGV[3]=='1' then redis.call('XADD',KEYS[3],'MAXLEN','~',1000,'*','j',ARGV[1]) end
return 'cancelled'
"""
)

#: Notes that a result was fetched; once all of a job's are, it makes room for others when there is none.
#: KEYS job fetched | ARGV k job
FETCHED = Script(
    FIELDS
    + """
local job=redis.call('HMGET',KEYS[1],'s','n')
if job[1]~='done' or redis.call('HSETNX',KEYS[1],'g'..ARGV[1],'1')==0 then return 0 end
if redis.call('HINCRBY',KEYS[1],'got',1)==tonumber(job[2]) then redis.call('ZADD',KEYS[2],now(),ARGV[2]) end
return 1
"""
)

#: Removes a job that has ended, or is gone, and its results: KEYS job results kept fetched outs... | ARGV job
#: -> 1 · 0: it has not ended. Frames of a dead letter stay, with the letter.
FORGET = Script(
    FIELDS
    + COUNTS
    + """
local state=redis.call('HGET',KEYS[1],'s')
if state=='queued' or state=='running' then return 0 end
redis.call('UNLINK',KEYS[1])
for k=5,#KEYS do redis.call('UNLINK',KEYS[k]) end
redis.call('ZREM',KEYS[3],ARGV[1])
redis.call('ZREM',KEYS[4],ARGV[1])
hold(KEYS[2],ARGV[1],0)
return 1
"""
)

#: Counts what a job holds in truth, where it was ended by an older release that does not count, or is gone.
#: KEYS job results kept outs... | ARGV job
RECKON = Script(
    FIELDS
    + COUNTS
    + f"\nlocal RECORD={RECORD_BYTES}"
    + """
local state,size=redis.call('HGET',KEYS[1],'s'),RECORD
if state=='queued' or state=='running' or (state and redis.call('ZSCORE',KEYS[3],ARGV[1])) then return 0 end
if not state then size=0 else
  for k=4,#KEYS do size=size+redis.call('STRLEN',KEYS[k]) end
  redis.call('ZADD',KEYS[3],now()+math.max(0,redis.call('PTTL',KEYS[1])),ARGV[1])
end
hold(KEYS[2],ARGV[1],size)
return 1
"""
)

#: Queues a dead job again, all of it: KEYS job payload load stream buckets wake dead hooks clients results kept
#: ARGV group dead_id job order_ms -> items queued, or -1: the frames are gone, -2: it did not fail, -3: nobody waits,
#: -4: part of its record is lost
REPLAY = Script(
    FIELDS
    + COUNTS
    + """
local found=redis.call('XRANGE',KEYS[7],ARGV[2],ARGV[2])
if #found==0 then return -2 end
local e=fields(found[1][2])
if e['f']~='' then return -3 end
if redis.call('EXISTS',KEYS[2])==0 then return -1 end
local job=redis.call('HMGET',KEYS[1],'s','n','c','room')
if job[1]~='failed' then return -2 end
if not record(KEYS[1]) or redis.call('HEXISTS',KEYS[1],'m')==0 then return -4 end
local n,t,first=tonumber(job[2]),now(),nil
if redis.call('EXISTS',KEYS[4])==0 then redis.call('XGROUP','CREATE',KEYS[4],ARGV[1],'0','MKSTREAM') end
redis.call('SADD',KEYS[5],KEYS[4])
for k=0,n-1 do
  redis.call('HDEL',KEYS[1],'d'..k,'l'..k,'g'..k)
  local id=redis.call('XADD',KEYS[4],'*','j',ARGV[3],'k',k,'p',e['p'],'f','','d',t+tonumber(ARGV[4]),
    'x',0,'b',e['b'],'w',e['w'],'t',e['t'],'q','1','c',job[3])
  first=first or id
end
redis.call('HSET',KEYS[1],'s','queued','done',0,'st',KEYS[4],'id',first)
redis.call('HDEL',KEYS[1],'e','end','bytes','got')
redis.call('PERSIST',KEYS[1])
redis.call('PERSIST',KEYS[2])
redis.call('ZREM',KEYS[8],ARGV[3])
redis.call('HINCRBY',KEYS[3],'items',n)
redis.call('HINCRBY',KEYS[3],'bytes',n*tonumber(e['b']))
redis.call('HINCRBY',KEYS[3],'work',n*tonumber(e['w']))
redis.call('HINCRBY',KEYS[3],'jobs',n)
redis.call('HINCRBY',KEYS[3],'jobbytes',n*tonumber(e['b']))
redis.call('HINCRBY',KEYS[9],job[3],n)
redis.call('ZREM',KEYS[11],ARGV[3])
hold(KEYS[10],ARGV[3],tonumber(job[4] or 0))
redis.call('XDEL',KEYS[7],ARGV[2])
redis.call('LPUSH',KEYS[6],'1')
return n
"""
)
