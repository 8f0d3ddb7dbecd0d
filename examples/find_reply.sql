-- What became of one message, and its reply:
--   PGPASSWORD=… psql postgresql://user@host/database -v message_id=… -f find_reply.sql
-- A message_id is unique within a channel user; others may use the same one.
SELECT u.channel,
       m.state,
       m.outcome,
       r.text       AS reply,
       r.created_at AS replied_at
FROM messages m
JOIN channel_users u ON u.id = m.channel_user_id
LEFT JOIN turns t ON t.id = m.turn_id
LEFT JOIN replies r ON r.turn_id = t.id
WHERE m.message_id = :'message_id';
