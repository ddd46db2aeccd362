-- Outlast 7: binding the application's tables.

select public.outlast_start_change();

-- Binds the tables of outlast_bindings: adds the columns `media` and `media_status`, and creates the triggers and the
-- sweep's index. Outlast's triggers on other tables are dropped. With arguments, or when there is no binding yet, the
-- binding `generations` is made for that table. Call it again after a change of bindings. What is in place is left
-- alone, and locks no table. If one of several tables does not fit, that is only a warning, so that it hinders no
-- other.
create or replace function public.outlast_install(p_schema text default null, p_table text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_binding text;
begin
  perform public.outlast_start_change();
  if coalesce(p_schema, p_table) is not null or not exists (select from public.outlast_bindings) then
    insert into public.outlast_bindings as b (name, schema, "table", owner_column, status_column, completed_values,
        output_columns, request_column, created_column, media_column, media_status_column)
      values ('generations', coalesce(p_schema, 'public'), coalesce(p_table, 'generations'), 'user_id', 'status',
        '{completed}', '{output}', 'request_id', 'created_at', 'media', 'media_status')
      on conflict (name) do update set schema = coalesce(p_schema, b.schema), "table" = coalesce(p_table, b."table");
  end if;
  for v_binding in select name from public.outlast_bindings order by name loop
    begin
      perform public.outlast_install_binding(v_binding);
    exception when undefined_table or undefined_column or datatype_mismatch or wrong_object_type or duplicate_column
        or invalid_parameter_value or insufficient_privilege then
      if (select count(*) from public.outlast_bindings) = 1 then
        raise;
      end if;
      raise warning 'outlast: the table of the binding % is not bound: %', v_binding, sqlerrm;
    end;
  end loop;
  perform public.outlast_drop_unbound();
  return public.outlast_health();
end $$;

-- Binds one table. Raises an error that names the option of `outlast init` if the table does not fit.
create or replace function public.outlast_install_binding(p_binding text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  c record;
begin
  perform public.outlast_check_binding(p_binding);
  perform public.outlast_check_options(p_binding);
  perform public.outlast_check_keys(p_binding);
  select * into g from public.outlast_bound(p_binding);
  perform public.outlast_note_installation(p_binding, g.rel);
  -- The comments mark the columns that outlast_unbind and removal/2_outlast_data.sql may drop ("Outlast: ..."), and
  -- those that existed before.
  for c in select v.name, v.type, a.attnum from (values (g.media_name, 'jsonb'), (g.media_status_name, 'text')) as v (
      name, type) left join pg_attribute a on a.attrelid = g.rel and a.attname = v.name and not a.attisdropped
      where v.name is not null loop
    if c.attnum is null then
      perform public.outlast_add_column(g.rel, c.name, c.type);
      execute format('comment on column %s.%I is ''Outlast: only Outlast writes this column''', g.rel, c.name);
    elsif col_description(g.rel, c.attnum) is null then
      perform public.outlast_lock_tables(g.rel);
      execute format('comment on column %s.%I is ''Outlast writes this column, which existed before''', g.rel, c.name);
    end if;
  end loop;
  -- A constraint of earlier versions, for which the ids of two bindings would be the same.
  if (select count(*) > 1 from public.outlast_bindings) and exists (select from pg_constraint
      where conrelid = 'public.outlast_files'::regclass and conname = 'outlast_files_generation_id_source_key_key') then
    perform public.outlast_lock_tables(g.rel);
    alter table public.outlast_files drop constraint outlast_files_generation_id_source_key_key;
  end if;
  perform public.outlast_install_triggers(p_binding);
  perform public.outlast_install_index(p_binding);
end $$;

-- Trigger function: records the ids of deleted generations; `outlast_release` deletes their files later. So the user's
-- statement does not wait for Outlast's locks, and an error here does not fail it. The arguments are the id column's
-- name and the binding, which triggers of earlier versions lack.
create or replace function public.outlast_note_deletions() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  execute format('insert into public.outlast_deletions (binding, generation_id) select %L, g.%I::text from %s g',
    case when tg_nargs > 1 then tg_argv[1] else 'generations' end, tg_argv[0],
    case tg_op when 'TRUNCATE' then tg_relid::regclass::text else 'gone' end);
  return null;
exception when others then
  raise warning 'outlast: the files of the deleted generations will not be removed: % (SQLSTATE %)', sqlerrm, sqlstate;
  return null;
end $$;

-- The triggers of a binding. They contain names only in arguments, so that the application can change the types of its
-- columns. A WHEN condition would keep the table's owner from dropping the columns.
create or replace function public.outlast_triggers_wanted(
  p_binding text, out name text, out rel regclass, out definition text
) returns setof record language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_notify text;
  v_note text;
  v_kept text;
begin
  select * into g from public.outlast_bound(p_binding);
  if g.rel is null or g.id_name is null or g.output_names is null then
    return;
  end if;
  v_notify := format('for each row execute function public.outlast_notify(%s)', (
    select string_agg(quote_literal(a), ', ' order by n)
    from unnest(public.outlast_notify_arguments(p_binding)) with ordinality as u (a, n)));
  v_note := format('for each statement execute function public.outlast_note_deletions(%L, %L)', g.id_name, p_binding);
  return query values
    ('outlast_notify_insert', g.rel, format('after insert on %s ', g.rel) || v_notify),
    ('outlast_notify_update', g.rel, format('after update on %s ', g.rel) || v_notify),
    ('outlast_deleted', g.rel, format('after delete on %s referencing old table as gone ', g.rel) || v_note),
    ('outlast_truncated', g.rel, format('before truncate on %s ', g.rel) || v_note);
  v_kept := (select string_agg(quote_literal(attname), ', ' order by attname) from pg_attribute
    where attrelid = g.rel and attname in (g.media_name, g.media_status_name) and not attisdropped);
  if v_kept is not null then
    return query select 'outlast_keep_media', g.rel, format(
      'before insert or update on %s for each row execute function public.outlast_keep_media(%s)', g.rel,
      case when v_kept <> '''media'', ''media_status''' then v_kept else '' end);
  end if;
end $$;

-- Creates the triggers that are missing, disabled or were created for other names. Each trigger's comment holds its
-- definition. What is in place is not locked.
create or replace function public.outlast_install_triggers(p_binding text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  w record;
begin
  for w in select * from public.outlast_triggers_wanted(p_binding) loop
    if not exists (select from pg_trigger t where t.tgrelid = w.rel and t.tgname = w.name
        and t.tgenabled in ('O', 'A') and obj_description(t.oid, 'pg_trigger') = w.definition) then
      perform public.outlast_lock_tables(w.rel);
      execute format('drop trigger if exists %I on %s', w.name, w.rel);
      execute format('create trigger %I %s', w.name, w.definition);
      execute format('comment on trigger %I on %s is %L', w.name, w.rel, w.definition);
    end if;
  end loop;
end $$;

-- Drops the triggers and indexes on tables that are not bound any more, and triggers for columns not written any more.
create or replace function public.outlast_drop_unbound() returns void
language plpgsql security definer set search_path = '' as $$
declare
  v record;
begin
  for v in select t.tgname as name, t.tgrelid::regclass as rel from pg_trigger t
      where t.tgfoid in ('public.outlast_notify'::regproc, 'public.outlast_note_deletions'::regproc,
          'public.outlast_keep_media'::regproc)
        and t.tgparentid = 0  -- a partition's trigger belongs to the partitioned table
        and not exists (select from public.outlast_bindings b, public.outlast_bound(b.name) g
          where g.rel = t.tgrelid and (g.id_name is null or g.output_names is null or t.tgname in (
            select w.name from public.outlast_triggers_wanted(b.name) w))) loop
    perform public.outlast_lock_tables(v.rel);
    execute format('drop trigger %I on %s', v.name, v.rel);
  end loop;
  for v in select c.oid::regclass as name, i.indrelid::regclass as rel from pg_class c
      join pg_index i on i.indexrelid = c.oid
      where c.relname ~ '^outlast_unheard' and c.relkind in ('i', 'I') and not c.relispartition and not exists (
        select from public.outlast_bindings b, public.outlast_bound(b.name) g
        where g.rel = i.indrelid and c.relname = public.outlast_index_name(b.name)) loop
    perform public.outlast_lock_tables(v.rel);
    execute format('drop index %s', v.name);
  end loop;
end $$;

-- The owner of the table runs outlast_install in the SQL editor. No role may call it over REST.
revoke all on function public.outlast_note_deletions(), public.outlast_triggers_wanted(text),
  public.outlast_install_triggers(text), public.outlast_drop_unbound(), public.outlast_install_binding(text),
  public.outlast_install(text, text)
  from public, anon, authenticated, service_role;
