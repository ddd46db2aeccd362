-- Outlast 5: the trigger functions of the generations table. One sends signed webhooks (Standard Webhooks, HMAC-SHA256),
-- the other lets only Outlast and trusted roles write `media` and `media_status`.

select public.outlast_start_change();

-- The webhook secret, `whsec_<base64>`: from Vault, where its name is outlast_webhook_secret, or else from
-- outlast_settings.
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
      raise warning 'outlast: Vault cannot be read (SQLSTATE %); the secret in outlast_settings is used', sqlstate;
    end;
  end if;
  return coalesce(v_secret, (select value from public.outlast_settings where key = 'webhook_secret'));
end $$;

-- The HTTP headers that sign exactly the text `p_body`. Raises an error when the secret is not valid base64.
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

-- Sends the body of a Supabase Database Webhook, signed, when a row becomes completed, or when a completed row gets
-- another output. Outlast's own update of `media` does neither. The arguments are the names of the status column, the
-- completed value and the output column, for outlast_note_late_row the names of the id column and of the column with
-- the creation time, which is empty if that is no time. They are compared here and not in a WHEN clause, because PostgreSQL refuses
-- to change the type of a column that a WHEN clause names. record_image_ne compares values of every type, also json.
--
-- pg_net sends jsonb in its text form, so that text is signed. The table's name comes from outlast_settings, because
-- the trigger fires on the partitions of a partitioned table. Every error becomes a warning, because this trigger must
-- never fail the statement that fired it. `outlast reconcile` finds generations whose event was lost.
--
-- `outlast.timeout_ms` in the body tells the receiver how long pg_net waits for the response.
create or replace function public.outlast_notify() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  s jsonb;
  v_due boolean;
  v_secret text;
  v_timeout_ms int;
  v_body jsonb;
begin
  if tg_op = 'INSERT' then
    execute format('select $1.%I::text = %L', tg_argv[0], tg_argv[1]) into v_due using new;
  else
    execute format('select $2.%1$I::text = %2$L and ($1.%1$I::text is distinct from %2$L'
      ' or record_image_ne(row($1.%3$I), row($2.%3$I)))', tg_argv[0], tg_argv[1], tg_argv[2]) into v_due using old, new;
  end if;
  if v_due is not true then
    return null;
  end if;
  if tg_nargs = 5 then  -- triggers of a pre-release version have three arguments
    execute format('select public.outlast_note_late_row($1.%I::text, %s, $2)', tg_argv[3],
      case tg_argv[4] when '' then 'null' else format('$1.%I::text', tg_argv[4]) end) using new, tg_op = 'UPDATE';
  end if;
  s := (select jsonb_object_agg(key, value) from public.outlast_settings);
  if s ->> 'webhook_url' = '' then
    return null;  -- no webhooks are wanted: outlast init --sweep-only
  end if;
  v_secret := public.outlast_webhook_secret();
  if coalesce(s ->> 'webhook_url', '') = '' or coalesce(v_secret, '') = '' then
    raise warning 'outlast: no webhook is sent, because webhook_url or the secret is not set; run: outlast init';
    return null;
  end if;
  if v_secret !~ '^whsec_[A-Za-z0-9+/]+=*$' then
    raise warning 'outlast: no webhook is sent, because the webhook secret is not of the form whsec_<base64>';
    return null;
  end if;
  v_timeout_ms := coalesce((s ->> 'webhook_timeout_ms')::int, 5000);
  v_body := jsonb_build_object('type', tg_op, 'table', s ->> 'generations_table', 'record', to_jsonb(new),
    'schema', s ->> 'generations_schema', 'old_record', case when tg_op = 'UPDATE' then to_jsonb(old) end,
    'outlast', jsonb_build_object('timeout_ms', v_timeout_ms));
  perform net.http_post(url => s ->> 'webhook_url', body => v_body,
    headers => public.outlast_sign(v_secret, v_body::text),
    timeout_milliseconds => v_timeout_ms);
  return null;
exception when others then
  raise warning 'outlast: the webhook could not be sent: % (SQLSTATE %)', sqlerrm, sqlstate;
  return null;
end $$;

-- Trigger function: only the owners of the table and of this function, and roles that bypass row-level security
-- (service_role, postgres), write `media` and `media_status`. For others, an update keeps the old values and an insert
-- gets the defaults; no statement fails. Not security definer: current_user is the role that executes the statement.
create or replace function public.outlast_keep_media() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_defaults text;
begin
  if old.media is not distinct from new.media and old.media_status is not distinct from new.media_status then
    return new;  -- `old` is null in an insert
  elsif exists (select from pg_catalog.pg_roles where rolname = current_user and (rolsuper or rolbypassrls))
    or exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
      join pg_catalog.pg_class c on c.oid = t.tgrelid where c.oid = tg_relid and t.tgname = tg_name
        and (pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
             or pg_catalog.pg_has_role(current_user, p.proowner, 'usage')))
  then
    return new;
  elsif tg_op = 'UPDATE' then
    new.media := old.media;
    new.media_status := old.media_status;
    return new;
  end if;
  select string_agg(coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), case
      when not a.attnotnull then 'null' when a.attname = 'media' then '''[]''' else '''pending''' end), ', '
      order by a.attname)
    into v_defaults
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = tg_relid and a.attname in ('media', 'media_status') and not a.attisdropped;
  execute 'select ' || v_defaults into new.media, new.media_status;
  return new;
exception when others then
  raise warning 'outlast: media and media_status are not protected: % (SQLSTATE %)', sqlerrm, sqlstate;
  return new;
end $$;

-- The trigger of the bound table. A WHEN condition would keep the table's owner from dropping the columns.
create or replace function public.outlast_media_trigger(out name text, out rel regclass, out definition text)
returns setof record language sql stable security definer set search_path = '' as $$
  select 'outlast_keep_media', g.rel, format(
    'before insert or update on %s for each row execute function public.outlast_keep_media()', g.rel)
  from public.outlast_generations() g
  where (select count(*) = 2 from pg_attribute
    where attrelid = g.rel and attname in ('media', 'media_status') and not attisdropped)
$$;

revoke all on function public.outlast_webhook_secret(), public.outlast_sign(text, text), public.outlast_notify(),
  public.outlast_keep_media(), public.outlast_media_trigger()
  from public, anon, authenticated, service_role;
