-- Outlast 5/7: the signed webhook (Standard Webhooks, HMAC-SHA256), sent by the database itself.

-- The secret, `whsec_<base64>`: from Vault, under the name outlast_webhook_secret, else from the settings.
create or replace function public.outlast_webhook_secret() returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_secret text;
begin
  if to_regclass('vault.decrypted_secrets') is not null then
    begin
      execute 'select decrypted_secret from vault.decrypted_secrets where name = ''outlast_webhook_secret'''
        into v_secret;
    exception when others then
      raise warning 'outlast: Vault cannot be read (%)', sqlstate;
    end;
  end if;
  return coalesce(v_secret, (select value from public.outlast_settings where key = 'webhook_secret'));
end $$;

-- Headers that sign `p_body` as it is, byte for byte. Raises when the secret's base64 is broken.
create or replace function public.outlast_sign(p_secret text, p_body text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_id text := 'msg_' || gen_random_uuid();
  v_time text := floor(extract(epoch from clock_timestamp()))::bigint;
  v_key bytea := decode(substr(p_secret, 7), 'base64');
  v_digest bytea := extensions.hmac(convert_to(v_id || '.' || v_time || '.' || p_body, 'UTF8'), v_key, 'sha256');
begin
  return jsonb_build_object('Content-Type', 'application/json', 'webhook-id', v_id, 'webhook-timestamp', v_time,
    'webhook-signature', 'v1,' || encode(v_digest, 'base64'));
end $$;

-- Supabase's own webhook body, signed. It sends jsonb as text, and so signs that very text. Whatever goes wrong here is
-- a warning: the statement that fired us is the user's, and a lost event is found again by `outlast reconcile`.
create or replace function public.outlast_notify() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_url text;
  v_timeout int;
  v_secret text;
  v_body jsonb;
begin
  select value into v_url from public.outlast_settings where key = 'webhook_url';
  select value::int into v_timeout from public.outlast_settings where key = 'webhook_timeout_ms';
  v_secret := public.outlast_webhook_secret();
  if coalesce(v_url, '') = '' or coalesce(v_secret, '') = '' then
    raise warning 'outlast: nothing is sent until webhook_url and webhook_secret are in public.outlast_settings';
    return null;
  end if;
  if v_secret !~ '^whsec_[A-Za-z0-9+/]+=*$' then
    raise warning 'outlast: nothing is sent, since webhook_secret is not of the form whsec_<base64>';
    return null;
  end if;
  v_body := jsonb_build_object('type', tg_op, 'table', tg_table_name, 'record', to_jsonb(new),
    'schema', tg_table_schema, 'old_record', case when tg_op = 'UPDATE' then to_jsonb(old) end);
  perform net.http_post(url => v_url, body => v_body, headers => public.outlast_sign(v_secret, v_body::text),
    timeout_milliseconds => coalesce(v_timeout, 5000));
  return null;
exception when others then
  raise warning 'outlast: the webhook is not sent: % (%)', sqlerrm, sqlstate;
  return null;
end $$;

revoke all on function public.outlast_webhook_secret(), public.outlast_sign(text, text), public.outlast_notify()
  from public, anon, authenticated, service_role;
