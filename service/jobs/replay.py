"""The Lua by which an operator queues a dead job again."""

from __future__ import annotations

from service.jobs.scripts import FIELDS, Script

#: Queues a dead job again, all of it: KEYS job payload load stream buckets wake dead hooks
#: ARGV group dead_id job order_ms -> items queued, or -1: the frames are gone, -2: it did not fail, -3: nobody waits,
#: -4: part of its record is lost
REPLAY = Script(
    FIELDS
    + """
local found=redis.call('XRANGE',KEYS[7],ARGV[2],ARGV[2])
if #found==0 then return -2 end
local e=fields(found[1][2])
if e['f']~='' then return -3 end
if redis.call('EXISTS',KEYS[2])==0 then return -1 end
local job=redis.call('HMGET',KEYS[1],'s','n')
if job[1]~='failed' then return -2 end
if not record(KEYS[1]) or redis.call('HEXISTS',KEYS[1],'m')==0 then return -4 end
local n,t,first=tonumber(job[2]),now(),nil
if redis.call('EXISTS',KEYS[4])==0 then redis.call('XGROUP','CREATE',KEYS[4],ARGV[1],'0','MKSTREAM') end
redis.call('SADD',KEYS[5],KEYS[4])
for k=0,n-1 do
  redis.call('HDEL',KEYS[1],'d'..k)
  local id=redis.call('XADD',KEYS[4],'*','j',ARGV[3],'k',k,'p',e['p'],'f','','d',t+tonumber(ARGV[4]),
    'x',0,'b',e['b'],'w',e['w'],'t',e['t'])
  first=first or id
end
redis.call('HSET',KEYS[1],'s','queued','done',0,'st',KEYS[4],'id',first)
redis.call('HDEL',KEYS[1],'e','end')
redis.call('PERSIST',KEYS[1])
redis.call('PERSIST',KEYS[2])
redis.call('ZREM',KEYS[8],ARGV[3])
redis.call('HINCRBY',KEYS[3],'items',n)
redis.call('HINCRBY',KEYS[3],'bytes',n*tonumber(e['b']))
redis.call('HINCRBY',KEYS[3],'work',n*tonumber(e['w']))
redis.call('XDEL',KEYS[7],ARGV[2])
redis.call('LPUSH',KEYS[6],'1')
return n
"""
)
