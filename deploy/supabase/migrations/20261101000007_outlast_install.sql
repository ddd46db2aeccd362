-- Outlast 7: binding the application's generations table.

-- Binds a table: stores its name (null keeps the name in outlast_settings), adds the columns `media` and
-- `media_status`, and creates the triggers and the sweep's index. Outlast's triggers on any other table are dropped.
-- Call it again after a change of settings, because triggers and index contain column names and the completed value.
create or replace function public.outlast_install(p_schema text default null, p_table text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_old record;
  v_new record;
begin
  update public.outlast_settings
    set value = coalesce(case key when 'generations_schema' then p_schema else p_table end, value)
    where key in ('generations_schema', 'generations_table');
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
  -- Checked first, because an ALTER TABLE waits for an exclusive lock even when it has nothing to do. The column
  -- comment marks the columns that removal/2_outlast_data.sql may drop.
  for v_new in select name, type from (values ('media', 'jsonb'), ('media_status', 'text')) as c (name, type)
      where not exists (select from pg_attribute where attrelid = g.rel and attname = name and not attisdropped) loop
    execute format('alter table %s add column %I %s', g.rel, v_new.name, v_new.type);
    execute format('comment on column %s.%I is ''Outlast: only Outlast writes this column''', g.rel, v_new.name);
  end loop;
  if (select atttypid from pg_attribute where attrelid = g.rel and attname = 'media') <> 'jsonb'::regtype then
    raise exception '% has a column media that is not jsonb; rename that column', g.rel
      using errcode = 'datatype_mismatch';
  end if;
  for v_old in select tgrelid::regclass as rel, tgname from pg_trigger
      where tgfoid in ('public.outlast_notify'::regproc, 'public.outlast_note_deletions'::regproc)
        and tgrelid <> g.rel loop
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

-- The triggers that the current settings require. There is one notifying trigger for INSERT and one for UPDATE, because
-- the condition of an INSERT trigger cannot refer to OLD. They fire when a row becomes completed, or when a completed
-- row gets another output. Outlast's own update of `media` does neither. A `json` column is compared as text, because
-- json has no equality operator.
create or replace function public.outlast_triggers_wanted(out name text, out rel regclass, out definition text)
returns setof record language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_done text;
  v_changed text;
  v_notify text := 'for each row when (%s) execute function public.outlast_notify()';
  v_note text;
begin
  select * into g from public.outlast_generations();
  if g.rel is null or g.id_name is null or g.status_name is null or g.output_name is null then
    return;
  end if;
  v_done := format('(new.%I)::text = %L', g.status_name, g.completed);
  v_changed := format('(old.%1$I)::text is distinct from %2$L or (old.%3$I)%4$s is distinct from (new.%3$I)%4$s',
    g.status_name, g.completed, g.output_name, case when exists (
      select from pg_attribute where attrelid = g.rel and attname = g.output_name and atttypid = 'json'::regtype
    ) then '::text' else '' end);
  v_note := format('for each statement execute function public.outlast_note_deletions(%L)', g.id_name);
  return query values
    ('outlast_notify_insert', g.rel, format('after insert on %s ', g.rel) || format(v_notify, v_done)),
    ('outlast_notify_update', g.rel, format('after update on %s ', g.rel)
      || format(v_notify, format('%s and (%s)', v_done, v_changed))),
    ('outlast_deleted', g.rel, format('after delete on %s referencing old table as gone ', g.rel) || v_note),
    ('outlast_truncated', g.rel, format('before truncate on %s ', g.rel) || v_note);
end $$;

-- Creates the triggers. Each trigger's comment holds its definition, so that outlast_health can detect a trigger that
-- was created for other settings.
create or replace function public.outlast_install_triggers() returns void
language plpgsql security definer set search_path = '' as $$
declare
  w record;
begin
  for w in select * from public.outlast_triggers_wanted() loop
    execute format('create or replace trigger %I %s', w.name, w.definition);
    execute format('comment on trigger %I on %s is %L', w.name, w.rel, w.definition);
  end loop;
end $$;

-- The statement that creates the sweep's index, whose predicate is the sweep's condition; null without a usable table.
create or replace function public.outlast_index_wanted() returns text
language sql stable security definer set search_path = '' as $$
  select format('create index outlast_unheard on %s (%I) where %s', g.rel, g.created_name, w.condition)
  from public.outlast_generations() g, public.outlast_unheard_where() as w (condition)
  where w.condition is not null
$$;

-- Creates an index on the completed rows whose media_status is not final. There are few of them, so a sweep is fast on
-- a table of millions of rows. The index comment holds its definition; an index with another definition is replaced.
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
        and (not i.indisvalid or obj_description(c.oid, 'pg_class') is distinct from v_wanted) loop
    execute format('drop index %s', v_old.name);
  end loop;
  if not exists (select from pg_class where relname = 'outlast_unheard') then
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
