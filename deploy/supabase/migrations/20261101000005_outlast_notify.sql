-- Outlast 5: the trigger functions of the generations table. One sends signed webhooks (Standard Webhooks,
-- HMAC-SHA256), the other lets only Outlast and trusted roles write `media` and `media_status`.

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

-- Whether a row is completed: SQL for a row with this alias. Without a status column, a row with an output is.
create or replace function public.outlast_done_sql(
  p_alias text, p_status_column text, p_completed text[], p_output_columns text[]
) returns text language plpgsql immutable security definer set search_path = '' as $$
begin
  if p_status_column is not null then
    return (select format('%s.%I::text in (%s)', p_alias, p_status_column, string_agg(quote_literal(v), ', '))
      from unnest(p_completed) v);
  end if;
  return (select '(' || string_agg(format('%s.%I is not null', p_alias, c), ' or ') || ')'
    from unnest(p_output_columns) c);
end $$;

-- Sends a signed webhook when a row becomes completed, or when a completed row gets another output. Outlast's own
-- updates send none: those that write an output column or the status name the row in `outlast.own_update`, and those
-- that write media alone are told by `outlast.own_media` (outlast_update_row). The arguments are those of
-- outlast_notify_arguments; triggers of earlier versions have others. The columns are compared here and not in a WHEN
-- clause, because PostgreSQL refuses to change the type of a column that a WHEN clause names. A row that becomes deleted
-- (`deleted_column`) is recorded like one that is deleted. Every error becomes a warning, because this trigger must
-- never fail the statement that fired it. `outlast reconcile` finds generations whose event was lost.
create or replace function public.outlast_notify() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_arguments text[] := tg_argv;
  v_due boolean;
  v_gone boolean;
  v_installed timestamptz;
  v_id text;
  v_created text;
  v_event jsonb;
begin
  if tg_op = 'UPDATE' and current_setting('outlast.own_media', true) = concat(tg_relid, ' ', pg_trigger_depth()) then
    return null;
  end if;
  if tg_nargs <> 5 or strpos(v_arguments[1], '($1)') = 0 then
    v_arguments := '[0:4]=' || public.outlast_notify_arguments('generations')::text;
  end if;
  if tg_op = 'INSERT' then
    execute 'select ' || v_arguments[1] into v_due using new;
  else
    execute 'select ' || v_arguments[2] into v_due, v_gone using new, old;
  end if;
  if v_gone then
    execute 'select ' || v_arguments[3] into v_id using new;
    insert into public.outlast_deletions (binding, generation_id) values (v_arguments[0], v_id);
  elsif v_due then
    begin
      execute format('select %s, %s', v_arguments[3], v_arguments[4]) into v_id, v_created, v_event using new;
    exception when others then
      execute 'select ' || v_arguments[3] into v_id, v_created using new;
    end;
    select installed_at into strict v_installed from public.outlast_bindings where name = v_arguments[0];
    perform public.outlast_note_late_row(v_arguments[0], v_installed, v_id, v_created, tg_op = 'UPDATE');
    if v_event is null then  -- a column of it may have been dropped since
      execute 'select ' || (public.outlast_notify_arguments(v_arguments[0]))[5] into v_event using new;
    end if;
    if current_setting('outlast.own_update', true) is distinct from concat(v_arguments[0], chr(31), v_id) then
      perform public.outlast_send(v_arguments[0], v_event);
    end if;
  end if;
  return null;
exception when others then
  raise warning 'outlast: the webhook could not be sent: % (SQLSTATE %)', sqlerrm, sqlstate;
  return null;
end $$;

-- Sends the event of a completed row: {"outlast": {"v": 2, "binding", "generation_id", "user_id", "request_id",
-- "event_at", "outputs": [{"field", "value"}], "timeout_ms"}}. `timeout_ms` tells the receiver how long pg_net waits
-- for the response. pg_net sends jsonb in its text form, so that text is signed.
create or replace function public.outlast_send(p_binding text, p_event jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_url text;
  v_secret text;
  v_timeout_ms int;
  v_body jsonb;
begin
  select max(value) filter (where key = 'webhook_url'),
      coalesce(max(value) filter (where key = 'webhook_timeout_ms'), '5000')
    into v_url, v_timeout_ms from public.outlast_settings;
  if v_url = '' then
    return;  -- no webhooks are wanted: outlast init --sweep-only
  end if;
  v_secret := public.outlast_webhook_secret();
  if v_url is null or coalesce(v_secret, '') = '' then
    raise warning 'outlast: no webhook is sent, because webhook_url or the secret is not set; run: outlast init';
    return;
  end if;
  if v_secret !~ '^whsec_[A-Za-z0-9+/]+=*$' then
    raise warning 'outlast: no webhook is sent, because the webhook secret is not of the form whsec_<base64>';
    return;
  end if;
  v_body := jsonb_build_object('outlast', p_event || jsonb_build_object('v', 2, 'binding', p_binding,
    'event_at', clock_timestamp(), 'timeout_ms', v_timeout_ms));
  perform net.http_post(url => v_url, body => v_body, headers => public.outlast_sign(v_secret, v_body::text),
    timeout_milliseconds => v_timeout_ms);
end $$;

-- Trigger function: only the owners of the table and of this function, and roles that bypass row-level security
-- (service_role, postgres), write the columns that the arguments name, by default `media` and `media_status`. For
-- others, an update keeps the old values and an insert gets the defaults; no statement fails. Not security definer:
-- current_user is the role that executes the statement.
create or replace function public.outlast_keep_media() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_names text[] := case when tg_nargs = 0 then array['media', 'media_status'] else tg_argv::text[] end;
  v_same boolean;
  v_defaults text;
  v_kept jsonb;
begin
  if tg_nargs = 0 then  -- without a dynamic statement, which takes longer
    v_same := old.media is not distinct from new.media and old.media_status is not distinct from new.media_status;
  elsif tg_op = 'INSERT' then
    execute (select 'select ' || string_agg(format('($1).%I is null', n), ' and ') from unnest(v_names) n)
      into v_same using new;
  else
    execute (select 'select ' || string_agg(format('($1).%1$I is not distinct from ($2).%1$I', n), ' and ')
      from unnest(v_names) n) into v_same using old, new;
  end if;
  if v_same then
    return new;  -- `old` is null in an insert
  elsif exists (select from pg_catalog.pg_roles where rolname = current_user and (rolsuper or rolbypassrls))
    or exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
      join pg_catalog.pg_class c on c.oid = t.tgrelid where c.oid = tg_relid and t.tgname = tg_name
        and (pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
             or pg_catalog.pg_has_role(current_user, p.proowner, 'usage')))
  then
    return new;
  elsif tg_op = 'UPDATE' then
    execute (select 'select jsonb_build_object(' || string_agg(format('%1$L, to_jsonb(($1).%1$I)', n), ', ') || ')'
      from unnest(v_names) n) into v_kept using old;
    return jsonb_populate_record(new, v_kept);
  end if;
  select 'select jsonb_build_object(' || string_agg(format('%L, to_jsonb(%s)', a.attname, coalesce(
      pg_catalog.pg_get_expr(d.adbin, d.adrelid), case when not a.attnotnull then 'null::text'
        when a.atttypid = 'jsonb'::regtype then '''[]''::jsonb' else '''pending''::text' end)), ', ') || ')'
    into v_defaults
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = tg_relid and a.attname = any (v_names) and not a.attisdropped;
  execute v_defaults into v_kept;
  return jsonb_populate_record(new, v_kept);
exception when others then
  raise warning 'outlast: media and media_status are not protected: % (SQLSTATE %)', sqlerrm, sqlstate;
  return new;
end $$;

revoke all on function public.outlast_webhook_secret(), public.outlast_sign(text, text),
  public.outlast_done_sql(text, text, text[], text[]),
  public.outlast_notify(), public.outlast_send(text, jsonb), public.outlast_keep_media()
  from public, anon, authenticated, service_role;
