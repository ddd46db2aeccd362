-- Outlast 7: binding the application's generations table.

select public.outlast_start_change();

-- Binds a table: stores its name (null keeps the name in outlast_settings), adds the columns `media` and
-- `media_status`, and creates the triggers and the sweep's index. Outlast's triggers on any other table are dropped.
-- Call it again after a change of settings, because triggers and index contain column names and the completed value.
-- What is in place is left alone, and locks no table.
create or replace function public.outlast_install(p_schema text default null, p_table text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_old record;
  v_new record;
begin
  perform public.outlast_start_change();
  update public.outlast_settings o set value = n.value
    from (values ('generations_schema', p_schema), ('generations_table', p_table)) as n (key, value)
    where o.key = n.key and o.value <> n.value;
  select * into g from public.outlast_generations();
  if g.rel is null then
    raise exception 'there is no table %', (select string_agg(format('%I', value), '.' order by key)
      from public.outlast_settings where key in ('generations_schema', 'generations_table'))
      using errcode = 'undefined_table', hint = 'Create the table, or name another one: outlast init --table.';
  end if;
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    raise exception '% lacks a column: %', g.rel, (select string_agg(s.key || ' = ' || s.value, ', ')
        from public.outlast_settings s
        where s.key in ('id_column', 'status_column', 'output_column', 'created_column') and not exists (
          select from pg_attribute a where a.attrelid = g.rel and a.attname = s.value and not a.attisdropped))
      using errcode = 'undefined_column', hint = 'Add the column, or name another one: see outlast init --help.';
  end if;
  perform public.outlast_note_installation(g.rel);
  -- The column comment marks the columns that removal/2_outlast_data.sql may drop.
  for v_new in select name, type from (values ('media', 'jsonb'), ('media_status', 'text')) as c (name, type)
      where not exists (select from pg_attribute where attrelid = g.rel and attname = name and not attisdropped) loop
    perform public.outlast_add_column(g.rel, v_new.name, v_new.type);
    execute format('comment on column %s.%I is ''Outlast: only Outlast writes this column''', g.rel, v_new.name);
  end loop;
  if (select atttypid from pg_attribute where attrelid = g.rel and attname = 'media') <> 'jsonb'::regtype then
    raise exception '% has a column media that is not jsonb; rename that column', g.rel
      using errcode = 'datatype_mismatch';
  end if;
  for v_old in select tgrelid::regclass as rel, tgname from pg_trigger
      where tgfoid in ('public.outlast_notify'::regproc, 'public.outlast_note_deletions'::regproc)
        and tgrelid <> g.rel and tgparentid = 0 loop  -- a partition's trigger belongs to the partitioned table
    perform public.outlast_lock_tables(g.rel);
    execute format('drop trigger %I on %s', v_old.tgname, v_old.rel);
  end loop;
  perform public.outlast_install_triggers();
  perform public.outlast_install_index();
  return public.outlast_health();
end $$;

-- Trigger function: records the ids of deleted generations; `outlast_release` deletes their files later. So the user's
-- statement does not wait for Outlast's locks, and an error here does not fail it. The argument is the id column's
-- name.
create or replace function public.outlast_note_deletions() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  execute format('insert into public.outlast_deletions (generation_id) select g.%I::text from %s g', tg_argv[0],
                 case tg_op when 'TRUNCATE' then tg_relid::regclass::text else 'gone' end);
  return null;
exception when others then
  raise warning 'outlast: the files of the deleted generations will not be removed: % (SQLSTATE %)', sqlerrm, sqlstate;
  return null;
end $$;

-- The triggers that the current settings require. They contain names only as arguments, so that the application can
-- change the types of its columns.
create or replace function public.outlast_triggers_wanted(out name text, out rel regclass, out definition text)
returns setof record language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_notify text;
  v_note text;
begin
  select * into g from public.outlast_generations();
  if g.rel is null or g.id_name is null or g.status_name is null or g.output_name is null then
    return;
  end if;
  v_notify := format('for each row execute function public.outlast_notify(%L, %L, %L, %L, %L)',
    g.status_name, g.completed, g.output_name, g.id_name,
    case when public.outlast_created_is_time() then g.created_name else '' end);
  v_note := format('for each statement execute function public.outlast_note_deletions(%L)', g.id_name);
  return query values
    ('outlast_notify_insert', g.rel, format('after insert on %s ', g.rel) || v_notify),
    ('outlast_notify_update', g.rel, format('after update on %s ', g.rel) || v_notify),
    ('outlast_deleted', g.rel, format('after delete on %s referencing old table as gone ', g.rel) || v_note),
    ('outlast_truncated', g.rel, format('before truncate on %s ', g.rel) || v_note);
end $$;

-- Creates the triggers that are missing, disabled or were created for other settings, and drops the media trigger of a
-- table that is no longer bound. Each trigger's comment holds its definition. What is in place is not locked.
create or replace function public.outlast_install_triggers() returns void
language plpgsql security definer set search_path = '' as $$
declare
  w record;
begin
  for w in select t.tgname as name, t.tgrelid::regclass as rel from pg_trigger t
      where t.tgfoid = 'public.outlast_keep_media'::regproc and t.tgparentid = 0
        and t.tgrelid is distinct from (select g.rel from public.outlast_generations() g) loop
    perform public.outlast_lock_tables(w.rel);
    execute format('drop trigger %I on %s', w.name, w.rel);
  end loop;
  for w in select * from public.outlast_triggers_wanted() union all select * from public.outlast_media_trigger() loop
    if not exists (select from pg_trigger t where t.tgrelid = w.rel and t.tgname = w.name
        and t.tgenabled in ('O', 'A') and obj_description(t.oid, 'pg_trigger') = w.definition) then
      perform public.outlast_lock_tables(w.rel);
      execute format('drop trigger if exists %I on %s', w.name, w.rel);
      execute format('create trigger %I %s', w.name, w.definition);
      execute format('comment on trigger %I on %s is %L', w.name, w.rel, w.definition);
    end if;
  end loop;
end $$;

-- The statement that creates the sweep's index, whose predicate is a part of the sweep's condition; null without a
-- usable table. The status is a column of the index and not in its predicate: PostgreSQL rebuilds the index when the
-- application changes the type of the status, and a comparison with a value of the old type would fail then.
create or replace function public.outlast_index_wanted() returns text
language sql stable security definer set search_path = '' as $$
  select format('create index outlast_unheard on %s (%I, %I) where %s', g.rel, g.created_name, g.status_name,
    w.condition)
  from public.outlast_generations() g, public.outlast_unsettled_where() as w (condition)
  where g.status_name is not null and g.created_name is not null and w.condition is not null
$$;

-- Creates an index on the rows with an output whose media_status is not final. There are few of them, so a sweep is
-- fast on a table of millions of rows. The index comment holds its definition; another definition replaces the index.
-- Writes to the table wait while the index is built, which takes seconds on millions of rows. Without the index the
-- sweep still works but reads the whole table, so a failure is only a warning.
create or replace function public.outlast_install_index() returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_old record;
  v_wanted text := public.outlast_index_wanted();
begin
  select * into g from public.outlast_generations();
  for v_old in select c.oid::regclass as name from pg_class c join pg_index i on i.indexrelid = c.oid
      where c.relname = 'outlast_unheard'
        and (i.indrelid <> g.rel or not i.indisvalid
             or obj_description(c.oid, 'pg_class') is distinct from v_wanted) loop
    perform public.outlast_lock_tables(g.rel);
    execute format('drop index %s', v_old.name);
  end loop;
  if not exists (select from pg_class where relname = 'outlast_unheard') then
    perform public.outlast_lock_tables(g.rel);
    begin
      execute v_wanted;
      execute format('comment on index %s.outlast_unheard is %L', (
        select relnamespace::regnamespace from pg_class where oid = g.rel), v_wanted);
    exception when others then
      raise warning 'outlast: each sweep reads the whole table, because no index on % could be created: % (SQLSTATE %)',
        g.rel, sqlerrm, sqlstate;
    end;
  end if;
end $$;

-- The owner of the table runs outlast_install in the SQL editor. No role may call it over REST.
revoke all on function public.outlast_note_deletions(), public.outlast_triggers_wanted(),
  public.outlast_install_triggers(), public.outlast_install_index(), public.outlast_index_wanted(),
  public.outlast_install(text, text)
  from public, anon, authenticated, service_role;
